"""The methods, one folder each; imported as `ssl_zoo.methods`."""

if __name__ != "ssl_zoo.methods":
    raise ImportError(
        "import 'ssl_zoo.methods', not 'methods': under both names every method would register twice"
    )
