"""The web page and its REST API. Nothing stays on disk longer than it is judged, results in memory for minutes."""
