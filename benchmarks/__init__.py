"""Side-by-side measurements with other implementations; their results fill the documents."""
