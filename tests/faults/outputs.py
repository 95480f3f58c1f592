"""Commands with an option `--output`, and arguments for them."""

FILES = {
    "evaluate": ("evaluate", "untrained:pixels"),
    "embed": ("embed", "untrained:pixels", "digits"),
    "preview": ("preview", "simclr"),
    "explore duplicates": ("explore", "duplicates", "features.npz"),
    "explore outliers": ("explore", "outliers", "features.npz"),
    "explore subset": ("explore", "subset", "features.npz", "--size", "2"),
    "explore neighbours": ("explore", "neighbours", "features.npz", "1"),
    "plan": ("plan", "photos"),
    "table": ("table", "scores.json"),
    "report": ("report", "runs/swav"),
    "import": ("import", "weights.pth"),
    "export": ("export", "untrained:pixels", "--as", "torchvision"),
}
"""Commands that write a file."""
FOLDERS = {
    "export --as hub": ("export", "untrained:pixels", "--as", "hub"),
    "cluster": ("cluster", "untrained:pixels", "digits"),
    "classify": ("classify", "untrained:pixels", "data=digits"),
    "compare": ("compare", "simclr"),
    "shards": ("shards", "photos"),
    "new method": ("new", "method", "mine"),
    "submit compare": ("submit", "compare", "simclr", "--dry-run"),
    "submit evaluate": ("submit", "evaluate", "untrained:pixels", "--dry-run"),
    "train": ("train", "simclr", "seed=7"),
    "submit train": ("submit", "simclr", "seed=7", "--dry-run"),
}
"""Commands that write a folder."""
