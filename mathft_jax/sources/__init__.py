"""Raw rows to problems with solutions."""
