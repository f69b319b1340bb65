"""The chassis: what every kind of worker has in common, so that a kind is only its model."""
