"""The web page and its REST API. Nothing stays on disk longer than it takes to judge it; results stay in memory for
minutes."""
