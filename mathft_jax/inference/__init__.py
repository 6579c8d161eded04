"""Problems to candidates, candidates to scores."""
