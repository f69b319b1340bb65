"""Who may use the edge: keys now; limits and usage have their seam (docs/decisions)."""
