"""Models: their entries and licences, and the store that downloads and prepares them."""
