"""What both ends of the contract must agree on; knows neither the edge nor any worker."""
