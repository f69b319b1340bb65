"""The KV cache: whose cells are whose, which tokens they hold, what may be shared and evicted."""
