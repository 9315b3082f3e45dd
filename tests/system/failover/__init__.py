"""A messenger on a primary that fails over, under load, judged by the chaos checker."""
