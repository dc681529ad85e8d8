"""The engine from outside: its environment, its HTTP, its known answer."""
