import copy
import warnings

import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import RegularizerWarning, combine, create_regularizer


@pytest.fixture
def lightning():
    return pytest.importorskip("lightning.pytorch")


@pytest.fixture
def module(lightning, loop):
    class Module(lightning.LightningModule):
        optimizer = staticmethod(lambda parameters: torch.optim.SGD(parameters, lr=0.1))

        def __init__(self):
            super().__init__()
            self.network = loop.network()

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self):
            return self.optimizer(self.parameters())

    return Module


@pytest.fixture
def trainer(lightning, tmp_path):
    def make(*callbacks, epochs=1, **options):
        return lightning.Trainer(
            max_epochs=epochs,
            callbacks=list(callbacks),
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            **options,
        )

    return make


@pytest.fixture
def loader(loop):
    return torch.utils.data.DataLoader(loop.data, batch_size=None)


def callback(source="rp-comhe", **options):
    from comhe.regularizers.integrations.lightning import RegularizerCallback

    return RegularizerCallback(source, **options)


@pytest.mark.parametrize(("accumulate", "clip"), [(1, 0.0), (2, 0.0), (2, 0.05)])
def test_lightning_trainer(loop, module, trainer, loader, tmp_path, accumulate, clip):
    def fresh(epochs):
        options = {"accumulate_grad_batches": accumulate, "gradient_clip_val": clip or None}
        return trainer(callback(**loop.options), epochs=epochs, **options)

    first = fresh(1)
    first.fit(module(), loader)
    assert "penalty" in first.callback_metrics
    first.save_checkpoint(tmp_path / "half.ckpt")
    resumed = module()
    fresh(2).fit(resumed, loader, ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    loop.same(resumed.network, loop.written_out(accumulate, clip=clip))


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_leaves_the_penalty_as_it_is(lightning, module, trainer, loader, fused):
    """Gradients are multiplied by the scale until the step; a fused optimizer divides by it within its step."""
    from lightning.pytorch.plugins import MixedPrecision

    class Module(module):
        optimizer = staticmethod(lambda parameters: torch.optim.SGD(parameters, lr=0.1, fused=fused))

        def training_step(self, batch, index):
            return 0 * self.network(batch[0]).float().sum()

    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    trained, expected = Module(), Module()
    trainer(callback("mhe"), plugins=[plugin], limit_train_batches=1).fit(trained, loader)
    create_regularizer("mhe", expected)().backward()
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter -= 0.1 * parameter.grad if parameter.grad is not None else 0
    for a, b in zip(trained.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("toggle", [False, True])
@pytest.mark.parametrize("critic", [1, 2])
@pytest.mark.parametrize("name", ["hs-mhe", "rp-comhe", "ap-comhe"])
def test_each_of_several_optimizers_gives_its_layers_the_penalty_once_a_step(
    lightning, loop, trainer, loader, name, toggle, critic
):
    class GAN(lightning.LightningModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.g, self.d = loop.network(), loop.network()

        def training_step(self, batch, index):
            optimizers = self.optimizers()
            for which, times in ((0, critic), (1, 1)):
                for _ in range(times):
                    if toggle:
                        self.toggle_optimizer(optimizers[which])
                    loss = 0 * (self.d(batch[0]).sum() + self.g(batch[0]).sum())
                    self.manual_backward(loss)
                    optimizers[which].step()
                    for optimizer in optimizers:
                        optimizer.zero_grad()
                    if toggle:
                        self.untoggle_optimizer(optimizers[which])

        def configure_optimizers(self):
            return torch.optim.SGD(self.d.parameters(), 0.1), torch.optim.SGD(self.g.parameters(), 0.1)

    options = {"output": None, **({} if name == "hs-mhe" else {"dim": 8})}
    one, trained, expected = callback(name, **options), GAN(), GAN()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer(one, limit_train_batches=2).fit(trained, loader)
    regularizer = create_regularizer(name, expected, **options)
    for _ in range(2):
        for part, times in ((expected.d, critic), (expected.g, 1)):
            layers = [layer for layer in regularizer.layers if layer.module in set(part.modules())]
            for time in range(times):
                regularizer.total(regularizer.draw(layers)).backward()
                regularizer.step += time < times - 1
                with torch.no_grad():
                    for parameter in part.parameters():
                        if parameter.grad is not None:
                            parameter -= 0.1 * parameter.grad
                expected.zero_grad()
        regularizer.step += 1
    for a, b in zip(trained.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert one.regularizer.step == regularizer.step == 2 * critic


def test_two_callbacks_are_saved_and_resumed(loop, module, trainer, loader, tmp_path):
    def callbacks():
        first = callback("ap-comhe", dim=8, include="network.0", output=None, rate=lambda step: 0.1)
        return first, callback("ap-comhe", dim=6, include="network.2", output=None)

    whole, half, resumed = module(), module(), module()
    trainer(*callbacks(), epochs=2).fit(whole, loader)
    first = trainer(*callbacks())
    first.fit(half, loader)
    assert len({key for key in first.callback_metrics if key.startswith("penalty/ap-comhe(")}) == 2
    first.save_checkpoint(tmp_path / "half.ckpt")
    resume = {"ckpt_path": tmp_path / "half.ckpt", "weights_only": False}
    trainer(*callbacks(), epochs=2).fit(resumed, loader, **resume)
    loop.same(resumed, whole)


def test_one_callback_for_the_models_of_a_cross_validation(module, trainer, loader):
    one, first, second = callback("ap-comhe", dim=8), module(), module()
    trainer(one, limit_train_batches=2).fit(first, loader)
    assert one.regularizer.step == 2
    trainer(one, limit_train_batches=3).fit(second, loader)
    assert one.regularizer.step == 3
    assert one.regularizer.layers[0].module is second.network[0]
    trainer(one, limit_train_batches=2).fit(second, loader)  # the same model again: it goes on
    assert one.regularizer.step == 5


def test_a_function_makes_the_regularizer_of_the_module(module, trainer, loader):
    def both(model):
        first = create_regularizer("ocnn", model, include="*.0", output=None)
        return combine(first, create_regularizer("mhe", model, exclude="*.0"))

    one = callback(both)
    trainer(copy.deepcopy(one), limit_train_batches=2).fit(module(), loader)
    assert one.state_key.endswith("both()")
    with pytest.raises(UsageError, match="belong to a name"):
        callback(both, weight=1.0)


def test_pruning_leaves_the_penalty_that_of_the_masked_weights(lightning, module, trainer, loader):
    from lightning.pytorch.callbacks import ModelPruning

    one, trained = callback("mhe"), module()
    pruning = ModelPruning("l1_unstructured", parameters_to_prune=[(trained.network[0], "weight")], amount=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RegularizerWarning)
        trainer(pruning, one, epochs=2, limit_train_batches=2).fit(trained, loader)
    assert (trained.network[0].weight == 0).any()
    assert one.regularizer.step == 4
    assert one.regularizer().item() == pytest.approx(create_regularizer("mhe", trained)().item())


def test_layers_that_thaw_while_it_trains(lightning, module, trainer, loader):
    from lightning.pytorch.callbacks import BaseFinetuning

    class Gradual(BaseFinetuning):
        def freeze_before_training(self, pl_module):
            self.freeze(pl_module.network[0])

        def finetune_function(self, pl_module, epoch, optimizer):
            if epoch == 1:
                self.unfreeze_and_add_param_group(pl_module.network[0], optimizer, lr=0.1)

    class Still(module):
        def training_step(self, batch, index):
            return 0 * self.network(batch[0]).sum()

    one, trained = callback("mhe"), Still()
    before = trained.network[0].weight.detach().clone()
    trainer(Gradual(), one, epochs=1).fit(trained, loader)
    assert trained.network[0].weight.equal(before)
    assert [layer.name for layer in one.regularizer.layers] == ["network.2"]
    trainer(Gradual(), one, epochs=2).fit(trained, loader)
    assert not trained.network[0].weight.equal(before)


def test_the_former_name_still_works():
    pytest.importorskip("lightning.pytorch")
    from comhe.regularizers.integrations.lightning import RegularizerCallback

    with pytest.warns(DeprecationWarning, match=r"comhe\.regularizers\.integrations\.lightning"):
        from comhe.regularizers.lightning import RegularizerCallback as Former
    assert Former is RegularizerCallback


@pytest.mark.parametrize("name", ["rp-comhe", "ap-comhe", "adv-comhe"])
def test_every_closure_of_a_step_has_the_same_penalty(module, trainer, loader, loop, name):
    """LBFGS evaluates the loss several times a step; draws, schedules and what is learned move on once."""

    class Module(module):
        optimizer = staticmethod(lambda parameters: torch.optim.LBFGS(parameters, lr=0.02, max_iter=3))

    seen = []

    def weight(step):
        seen.append(step)
        return 0.1 + 0.1 * step

    options = {"weight": weight, "dim": 8}
    model, ours = Module(), callback(name, **options)
    trainer(ours).fit(model, loader)
    assert ours.regularizer.step == len(loop.data)
    assert set(seen) == set(range(len(loop.data)))

    expected = loop.network()
    regularizer = create_regularizer(name, nn.ModuleDict({"network": expected}), **options)
    optimizer = torch.optim.LBFGS(expected.parameters(), lr=0.02, max_iter=3)
    for x, y in loop.data:
        draws, states = regularizer.draw(), dict(regularizer._buffers)

        def closure(x=x, y=y, draws=draws, states=states):
            regularizer._buffers.update(states)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(expected(x), y)
            (loss + regularizer.total(draws)).backward()
            return loss

        optimizer.step(closure)
        regularizer.step += 1
    loop.same(model.network, expected)


def test_callbacks_that_differ_in_anything_have_states_of_their_own(module, trainer, loader, tmp_path):
    def maker(name):
        return lambda model: create_regularizer(name, model)

    def four():
        makers = [maker("so"), maker("mhe")]
        weights = [callback("ap-comhe", weight=w, dim=8) for w in (0.1, 0.2)]
        return [*weights, *map(callback, makers)]

    callbacks = four()
    fit = trainer(*callbacks)
    fit.fit(module(), loader)
    assert len({each.state_key for each in callbacks}) == 4
    assert len([key for key in fit.callback_metrics if key.startswith("penalty")]) == 4
    fit.save_checkpoint(tmp_path / "four.ckpt")
    states = torch.load(tmp_path / "four.ckpt", weights_only=False)["callbacks"]
    assert {each.state_key for each in callbacks} <= states.keys()
    again = four()
    trainer(*again, epochs=2).fit(module(), loader, ckpt_path=tmp_path / "four.ckpt", weights_only=False)
    assert {each.regularizer.step for each in again} == {12}


def test_a_resumed_run_may_have_other_weights(module, trainer, loader, tmp_path):
    first = trainer(callback("ap-comhe", weight=0.1, dim=8))
    first.fit(module(), loader)
    first.save_checkpoint(tmp_path / "one.ckpt")
    changed = callback("ap-comhe", weight=0.5, seed=3, dim=8)
    trainer(changed, epochs=2).fit(module(), loader, ckpt_path=tmp_path / "one.ckpt", weights_only=False)
    assert changed.regularizer.step == 12
    both = trainer(callback("so", weight=0.1), callback("so", weight=0.2))
    both.fit(module(), loader)
    both.save_checkpoint(tmp_path / "two.ckpt")
    with pytest.raises(UsageError, match=r"several states for so\(\), so\(\)|weight=0.1 and .*none for .*0.3"):
        trainer(callback("so", weight=0.3), epochs=2).fit(module(), loader, ckpt_path=tmp_path / "two.ckpt")


def test_equal_callbacks_are_an_error_that_names_them(module, trainer, loader):
    fit = trainer(callback("so", weight=0.1))
    fit.callbacks.append(callback("so", weight=0.1))
    with pytest.raises(UsageError, match=r"two callbacks are so\(\)|weight=0.1: their states"):
        fit.fit(module(), loader)


@pytest.fixture
def split(lightning, loop):
    """``split(parts)``: a module with an optimizer for each of the lists of parameters."""

    class Split(lightning.LightningModule):
        automatic_optimization = False

        def __init__(self, network, parts, raw=False):
            super().__init__()
            self.network, self.parts, self.raw = network, parts, raw

        def training_step(self, batch, index):
            self.manual_backward(0 * self.network(batch[0]).sum())
            for optimizer in self.optimizers(use_pl_optimizer=not self.raw):
                optimizer.step()
            self.zero_grad()

        def configure_optimizers(self):
            return [torch.optim.SGD(part, 0.1) for part in self.parts]

    return Split


@pytest.mark.parametrize("name", ["mhe", "ap-comhe"])
def test_optimizers_that_divide_a_layer_share_a_step(loop, trainer, loader, split, name):
    """Weights and biases, or the lengths and directions of weight norm."""
    options = {"dim": 8} if name == "ap-comhe" else {}
    plain = loop.network()
    matrices, vectors = ([p for p in plain.parameters() if (p.dim() > 1) is big] for big in (True, False))
    one = callback(name, **options)
    trainer(one, limit_train_batches=3).fit(split(plain, [matrices, vectors]), loader)
    assert one.regularizer.step == 3

    normed, expected = (nn.utils.parametrizations.weight_norm(nn.Linear(50, 12)) for _ in range(2))
    expected.load_state_dict(normed.state_dict())
    lengths, directions = (getattr(normed.parametrizations.weight, f"original{i}") for i in (0, 1))
    one = callback(name, output=None, **options)
    other = create_regularizer(name, nn.ModuleDict({"network": expected}), output=None, **options)
    fit = trainer(one, limit_train_batches=1)
    fit.fit(split(normed, [[lengths, normed.bias], [directions]]), loader)
    value = other()
    value.backward()
    assert one.regularizer.step == 1
    assert fit.callback_metrics["penalty"].item() == pytest.approx(value.item(), rel=1e-5)
    target = expected.parametrizations.weight.original1
    torch.testing.assert_close(directions, target - 0.1 * target.grad, rtol=1e-4, atol=1e-6)
    for learned, wanted in zip(one.regularizer.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(learned, wanted, rtol=1e-4, atol=1e-5)  # once, and not for each optimizer


def test_optimizers_without_lightning_are_told_once(loop, trainer, loader, split):
    network = loop.network()
    with pytest.warns(RegularizerWarning, match="SGD has stepped without Lightning") as told:
        trainer(callback("mhe")).fit(split(network, [[network[0].weight], [network[2].weight]], raw=True), loader)
    assert sum(issubclass(each.category, RegularizerWarning) for each in told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", RegularizerWarning)
        trainer(callback("mhe")).fit(split(network, [network[0].parameters(), network[2].parameters()]), loader)


def test_a_run_without_the_state_is_resumed_with_a_warning(module, trainer, loader, tmp_path):
    first = trainer(callback("ap-comhe", dim=8), limit_train_batches=2)
    first.fit(module(), loader)
    first.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.warns(RegularizerWarning, match=r"no state of ap-comhe\(dim=6\).*Its states: .*ap-comhe\(dim=8\)"):
        trainer(callback("ap-comhe", dim=6), epochs=2).fit(module(), loader, ckpt_path=tmp_path / "one.ckpt")


def test_what_a_test_has_loaded_is_not_for_the_next_model(module, trainer, loader, tmp_path):
    class Tested(module):
        def test_step(self, batch, index):
            return None

    one = callback("ap-comhe", dim=8)
    first = trainer(one, limit_train_batches=2, limit_test_batches=1)
    first.fit(Tested(), loader)
    first.save_checkpoint(tmp_path / "one.ckpt")
    first.test(Tested(), loader, ckpt_path=tmp_path / "one.ckpt", weights_only=False)
    trainer(one, limit_train_batches=1).fit(Tested(), loader)
    assert one.regularizer.step == 1


def test_a_batch_that_is_skipped_moves_nothing(lightning, trainer, loader, loop):
    class Skips(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = loop.network()

        def training_step(self, batch, index):
            return None

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    model = Skips()
    before = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, of None
        trainer(callback("hs-mhe")).fit(model, loader)
    for name, tensor in model.state_dict().items():
        assert tensor.equal(before[name])
