"""HTML page of all clusters by size; it needs only the contact sheets next to it."""

import html
from string import Template

from ssl_zoo.explore.clustered import ClusterFacts, Clusters

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { margin: 2rem auto; max-width: 1280px; padding: 0 1rem; background: #fafafa; color: #222;
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.4rem; margin: 0 0 .3rem }
p { margin: .2rem 0; color: #555 }
a { color: #0b57a4 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 1rem;
  margin-top: 1.5rem }
figure { margin: 0; padding: .7rem; background: #fff; border: 1px solid #e2e2e2; border-radius: 8px }
img { display: block; width: 100%; height: auto }
figcaption { margin-bottom: .5rem; overflow-wrap: anywhere }
figcaption small { color: #666 }
</style>
<h1>$title</h1>
<p>$summary</p>
<p>$scores</p>
<p><a href="$table">$table</a> · <a href="$result">$result</a></p>
<main>
$figures
</main>
</html>
""")


def page(result: Clusters, *, table: str, json_name: str) -> str:
    """Returns the HTML page of a result.

    Args:
        table: file name of the assignments.
        json_name: file name of the result.
    """
    title = f"{result.n_clusters} clusters of {result.data.name}"
    summary = (
        f"{result.n_images} images, clustered by features of {result.checkpoint}, nearest to the "
        f"centroid first; {len(result.shown)} of {result.n_clusters} clusters are shown, largest first"
    )
    return _PAGE.substitute(
        title=_text(title),
        summary=_text(summary),
        scores=_text(scores_line(result.scores)),
        table=_text(table),
        result=_text(json_name),
        figures="\n".join(_figure(one) for one in result.shown),
    )


def scores_line(scores: dict[str, float]) -> str:
    """Returns the scores of a result as readable text."""
    percent = [
        f"{name} {value:.1f}" for name, value in scores.items() if name != "mean_similarity"
    ]
    return f"mean similarity {scores['mean_similarity']:.3f}; in percent: {', '.join(percent)}"


def _figure(one: ClusterFacts) -> str:
    n = one.size
    facts = f"{n} image{'' if n == 1 else 's'}, mean similarity {one.mean_similarity:.3f}"
    if one.majority:
        facts += f", {100 * one.majority.share:.0f} % {one.majority.label}"
    name = f"Cluster {one.cluster}"
    if one.n_labelled is not None:
        name += f": {_text(one.name)}"
    return (
        f"<figure><figcaption><b>{name}</b><br><small>{_text(facts)}</small></figcaption>"
        f'<a href="{one.sheet}"><img loading="lazy" src="{one.sheet}" '
        f'alt="Nearest images of {name.lower()}"></a></figure>'
    )


def _text(value: str) -> str:
    return html.escape(value.encode(errors="backslashreplace").decode())
