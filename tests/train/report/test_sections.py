from comhe.train.compare.tables import table, views
from comhe.train.report import sections
from comhe.train.report.gather import Findings, gather
from comhe.train.report.meanings import Panel, enumerate_names


def parts(records):
    rows = table(records)
    last = [row for row in rows if row.epoch == "last"]
    panels = [Panel("test", "gcn", "citations", last)]
    return rows, panels, {row.method: i for i, row in enumerate(last)}


def test_every_variant_has_its_curve(finished):
    found = gather([finished[1]])
    _, panels, colors = parts(found.records)
    for section in (sections.learning(found, panels, colors), sections.energies(found, panels, colors)):
        for figure in section.figures:
            (axes,) = figure.drawing.figure.axes
            assert [line.get_label() for line in axes.lines] == list(colors)
            assert len(colors) == len(axes.collections) == 3
        assert section.missing == ""
    ((_, drawing, *names),) = sections.angle_histograms(found, panels, colors).figures
    assert names == list(panels[0][:3])
    assert drawing.title == "test gcn citations: convs.0.lin, seed 0: angles"
    assert [line.get_label() for line in drawing.figure.axes[0].lines] == ["before training", *colors]


def test_differences_of_every_variant(finished):
    rows, _, _ = parts(finished[2])
    section = sections.forests(rows)
    assert [figure.drawing.title for figure in section.figures] == [
        "test gcn: difference to none, last epoch",
        "test gcn: difference to none, validation-selected",
    ]
    ticks = section.figures[0].drawing.figure.axes[0].get_yticklabels()
    labels = [label.get_text().replace("\n", " ") for label in ticks]
    assert labels == [row.method for row in rows[1:3]]


def test_what_is_missing_is_said(finished):
    rows, panels, colors = parts(finished[2])
    nothing = Findings(records=finished[2])
    assert "curves need the run folders" in sections.learning(nothing, panels, colors).missing
    assert "energies=1" in sections.energies(nothing, panels, colors).missing
    assert "Not shown" in sections.angle_histograms(nothing, panels, colors).missing
    assert "no run without a regularizer" in sections.forests(rows[:1]).missing


def test_cost_is_the_step_where_it_was_timed_on_an_idle_machine(finished):
    rows, panels, colors = parts(finished[2])
    quiet = [
        {**record, "device": "a CPU", "other_cores": 0.1, "step_ms": 2.0, "seconds": 3.0} for record in finished[2]
    ]
    section = sections.costs(quiet, panels, colors, views(rows)[-1])
    ((_, drawing, *_),) = section.figures
    assert "step" in drawing.figure.axes[0].get_xlabel()
    assert "cost" in section.tables
    assert section.missing == ""
    old = [{**record, "step_ms": None, "gflops": None} for record in quiet]
    _, panels, _ = parts(old)
    ((_, drawing, *_),) = sections.costs(old, panels, colors, None).figures
    assert "run" in drawing.figure.axes[0].get_xlabel()
    mixed = [{**record, "device": f"GPU {record['seed']}"} for record in quiet]
    section = sections.costs(mixed, panels, colors, None)
    assert section.figures == []
    assert "test gcn citations: they ran on several devices (GPU 0, GPU 1)" in section.missing


def test_curves_of_some_of_the_seeds_are_said_to_be_so(finished):
    found = gather([finished[1]])
    _, panels, colors = parts(found.records)
    for runs in found.curves.values():
        del runs[1]
    assert "test gcn citations (1 of 2)" in sections.learning(found, panels, colors).missing


def test_enumerations():
    assert enumerate_names(["a"]) == "a"
    assert enumerate_names(["a", "b"]) == "a and b"
