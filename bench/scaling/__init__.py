"""From one engine to a thousand: a simulation, what it was checked against, and the arithmetic."""
