from comhe.train.compare.tables import table, views
from comhe.train.report import sections
from comhe.train.report.gather import Findings, gather
from comhe.train.report.sections import Panel, enumerate_names


def parts(records):
    rows = table(records)
    last = [row for row in rows if row.epoch == "last"]
    panels = [Panel("test", "gcn", "citations", last)]
    return rows, panels, {row.method: i for i, row in enumerate(last)}


def test_every_variant_has_its_curve(finished):
    found = gather([finished[1]])
    _, panels, colors = parts(found.records)
    for section in (sections.learning(found, panels, colors), sections.energies(found, panels, colors)):
        for _, drawing in section.figures:
            (axes,) = drawing.figure.axes
            assert [line.get_label() for line in axes.lines] == list(colors)
            assert len(colors) == len(axes.collections) == 3
        assert section.missing == ""
    ((_, drawing),) = sections.angle_histograms(found, panels, colors).figures
    assert drawing.title == "test gcn citations: convs.0.lin, seed 0: angles"
    assert [line.get_label() for line in drawing.figure.axes[0].lines] == ["before training", *colors]


def test_differences_of_every_variant(finished):
    rows, _, _ = parts(finished[2])
    section = sections.forests(rows)
    assert [drawing.title for _, drawing in section.figures] == [
        "test gcn: difference to none, last epoch",
        "test gcn: difference to none, validation-selected",
    ]
    labels = [label.get_text() for label in section.figures[0][1].figure.axes[0].get_yticklabels()]
    assert labels == [f"citations {row.method}" for row in rows[1:3]]


def test_what_is_missing_is_said(finished):
    rows, panels, colors = parts(finished[2])
    nothing = Findings(records=finished[2])
    assert "curves need the run folders" in sections.learning(nothing, panels, colors).missing
    assert "energies=1" in sections.energies(nothing, panels, colors).missing
    assert "Not shown" in sections.angle_histograms(nothing, panels, colors).missing
    assert "no run without a regularizer" in sections.forests(rows[:1]).missing


def test_cost_is_the_step_where_it_was_timed(finished):
    rows, panels, colors = parts(finished[2])
    section = sections.costs(panels, colors, views(rows)[-1])
    ((_, drawing),) = section.figures
    assert "step" in drawing.figure.axes[0].get_xlabel()
    assert "cost" in section.tables
    old = [{**record, "step_ms": None, "gflops": None} for record in finished[2]]
    _, panels, _ = parts(old)
    ((_, drawing),) = sections.costs(panels, colors, None).figures
    assert "run" in drawing.figure.axes[0].get_xlabel()


def test_enumerations():
    assert enumerate_names(["a"]) == "a"
    assert enumerate_names(["a", "b"]) == "a and b"
