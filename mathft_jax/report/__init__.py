"""Numbers to tables, figures and a page."""
