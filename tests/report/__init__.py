"""Tables, components and cards."""
