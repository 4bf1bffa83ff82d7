"""The invertible layers of FlowSeq: inverses, Jacobians, statistics of the first batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hf_nat.models.configuration_flowseq import FlowSeqConfig
from hf_nat.models.flow_layers import (
    ActNorm,
    Grid,
    InvertibleLinear,
    WeightNormLinear,
    gaussian_log_prob,
    make_grids,
    masked_moments,
    sinusoids,
    standard_normal,
)
from hf_nat.models.flows import Coupling, FlowLevel, PriorFlow
from hf_nat.models.noise import TargetNoise


def make_config(d_model: int = 8, flow_steps: tuple[int, ...] = (1, 1, 1)) -> FlowSeqConfig:
    config = FlowSeqConfig(
        d_model=d_model, flow_steps=list(flow_steps), encoder_attention_heads=2, decoder_attention_heads=2
    )
    config._attn_implementation = "sdpa"
    return config


def randomised(module: torch.nn.Module, std: float = 0.1) -> torch.nn.Module:
    """Weights of which no part is trivial; the matrices of the linear layers stay well conditioned."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, ActNorm | InvertibleLinear | WeightNormLinear):
            part.reset_parameters()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            tensor.add_(torch.randn_like(tensor) * (0.05 if name.endswith("weight") else std))
    return module


def random_grids(
    config: FlowSeqConfig, lengths: list[int], width: int = 0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[Grid]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(width, *lengths)) < torch.tensor(lengths).unsqueeze(1)
    states = torch.randn(len(lengths), 5, config.d_model, generator=generator)
    source_mask = (torch.arange(5) < torch.tensor([5, 3, 1, 4][: len(lengths)]).unsqueeze(1)).long()
    return make_grids(config, mask, states.to(dtype), source_mask)


def layers(config: FlowSeqConfig) -> dict[str, torch.nn.Module]:
    return {
        "actnorm": ActNorm(config.d_model),
        **{f"linear-{kind}": InvertibleLinear(config.d_model, kind == "B") for kind in "AB"},
        **{
            f"{split}-{'down' if down else 'up'}": Coupling(config, split, down)
            for split in ("halves", "parity", "steps")
            for down in (False, True)
        },
        "positional": Coupling(config, "halves", down=False, attend_positions=True),
        "level": FlowLevel(config, 1, is_last=False),
        "last level": FlowLevel(config, 2, is_last=True),
        "flow": PriorFlow(config),
    }


LAYERS = sorted(layers(make_config()))


@pytest.mark.parametrize("name", LAYERS)
def test_inverse_undoes_the_layer(name: str) -> None:
    config = make_config(d_model=64)
    layer = randomised(layers(config)[name])
    grids = random_grids(config, [12, 4, 8])
    z = torch.randn(3, 12, 64)
    with torch.no_grad():
        noise, _ = layer(z, grids)
        back = layer.inverse(noise, grids)
        forth, _ = layer(layer.inverse(z, grids), grids)
    mask = grids[0].mask
    assert not torch.allclose(noise[mask], z[mask], atol=0.1)
    assert_close(back[mask], z[mask], rtol=0, atol=1e-4)
    assert_close(forth[mask], z[mask], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_log_determinant_is_that_of_the_jacobian(name: str) -> None:
    config = make_config(d_model=4)
    layer = randomised(layers(config)[name]).double()
    # The layer itself computes in single precision: the gradients are exact to about 1e-6.
    grids = random_grids(config, [8, 4], dtype=torch.float64)
    z = torch.randn(2, 8, 4)
    log_dets = layer(z, grids)[1]
    for row, length in enumerate((8, 4)):

        def real_part(values: torch.Tensor, row: int = row, length: int = length) -> torch.Tensor:
            inputs = torch.cat([z[:row], torch.cat([values, z[row, length:]])[None], z[row + 1 :]])
            return layer(inputs, grids)[0][row, :length]

        jacobian = torch.autograd.functional.jacobian(real_part, z[row, :length], vectorize=True)
        expected = torch.linalg.slogdet(jacobian.reshape(length * 4, -1)).logabsdet
        assert abs(float(expected)) > 0.05
        assert_close(log_dets[row].float(), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_flow_of_a_row_depends_on_nothing_but_the_row(direction: str) -> None:
    config = make_config()
    flow = randomised(PriorFlow(config))
    grids = random_grids(config, [8, 4], width=12)
    z = torch.randn(2, 12, 8)
    states = grids[0].encoder_hidden_states[1:, :3]
    alone = make_grids(config, torch.ones(1, 4, dtype=torch.bool), states, torch.ones(1, 3))
    with torch.no_grad():
        if direction == "inverse":
            assert_close(flow.inverse(z, grids)[1:, :4], flow.inverse(z[1:, :4], alone), rtol=1e-4, atol=1e-4)
        else:
            (noise, log_det), (noise_alone, log_det_alone) = flow(z, grids), flow(z[1:, :4], alone)
            assert_close(noise[1:, :4], noise_alone, rtol=1e-4, atol=1e-4)
            assert_close(log_det[1:], log_det_alone, rtol=1e-4, atol=1e-4)


def test_flow_depends_on_the_source() -> None:
    config = make_config()
    flow, z = randomised(PriorFlow(config)), torch.randn(1, 8, 8)
    first, second = (flow(z, random_grids(config, [8], seed=seed))[0] for seed in (0, 1))
    assert not torch.allclose(first, second, atol=1e-2)


def test_untrained_couplings_shrink_by_a_constant() -> None:
    config = make_config()
    coupling = Coupling(config, "halves", down=False)
    coupling.head.reset_parameters()
    z = torch.randn(2, 8, 8)
    noise, log_det = coupling(z, random_grids(config, [8, 4]))
    assert torch.equal(noise[..., :4], z[..., :4])
    assert_close(noise[..., 4:], z[..., 4:] * 0.8808, rtol=1e-4, atol=1e-4)
    assert_close(log_det, torch.tensor([8, 4]) * 4 * math.log(0.8808), rtol=1e-3, atol=1e-3)


def test_published_flow_has_the_published_layers() -> None:
    with torch.device("meta"):
        flow = PriorFlow(FlowSeqConfig(d_model=256, flow_steps=[4, 4, 2]))
    counts = [sum(isinstance(layer, Coupling) for layer in level.layers) for level in flow.levels]
    assert counts == [51, 51, 18]
    assert all(sum(layer.split == "steps" for layer in level.layers if isinstance(layer, Coupling)) == n
               for level, n in zip(flow.levels, (16, 16, 0), strict=True))  # fmt: skip
    assert flow.levels[0].layers[4].num_heads == 8


def test_first_batch_normalises_every_actnorm() -> None:
    config = make_config(d_model=16)
    flow = randomised(PriorFlow(config))
    grids = random_grids(config, [12, 8, 4, 12], width=16)
    z = 3 + 5 * torch.randn(4, 16, 16)
    z[~grids[0].mask] = 1e3  # padding has no part in the statistics
    outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for module in flow.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda _, inputs, output: outputs.append((output[0], inputs[1][0].mask)))
    flow.initialize(z, grids)
    outputs.clear()
    with torch.no_grad():
        flow(z, grids)
    assert len(outputs) == 3 + 2 * (3 + 3 + 2)
    for output, mask in outputs:
        mean, std = masked_moments(output, mask)
        assert_close(mean, torch.zeros(16), rtol=0, atol=1e-4)
        assert_close(std, torch.ones(16), rtol=0, atol=1e-3)
    before = [p.clone() for p in flow.parameters()]
    flow.initialize(z, grids)
    assert all(torch.equal(p, q) for p, q in zip(flow.parameters(), before, strict=True))


def test_moments_count_real_positions_alone_and_keep_constants() -> None:
    values = torch.tensor([[[1.0, 7.0], [3.0, 7.0]], [[8.0, 7.0], [999.0, -5.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    mean, std = masked_moments(values, mask)
    assert_close(mean, torch.tensor([4.0, 7.0]))
    assert_close(std, torch.tensor([math.sqrt(26 / 3), 1.0]))


def test_inverse_of_the_linear_layer_follows_its_weight() -> None:
    layer, grids = InvertibleLinear(64, strided=True), random_grids(make_config(64), [4])
    layer.reset_parameters()
    z = torch.randn(1, 4, 64)
    for _ in range(2):
        assert_close(layer.inverse(layer(z, grids)[0], grids), z, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            layer.weight.add_(0.1 * torch.randn(32, 32))


def test_linear_layers_mix_neighbours_or_strides() -> None:
    z, grids = torch.zeros(1, 1, 64), random_grids(make_config(64), [4])[:1]
    z[..., 0] = 1
    grids[0] = Grid(torch.ones(1, 1, dtype=torch.bool), None, grids[0].encoder_hidden_states, None)
    reached = {}
    for strided in (False, True):
        layer = InvertibleLinear(64, strided)
        layer.reset_parameters()
        reached[strided] = layer(z, grids)[0].nonzero()[:, 2].tolist()
    assert reached == {False: list(range(32)), True: list(range(0, 64, 2))}


def test_flow_computes_in_single_precision_under_autocast_and_in_bfloat16() -> None:
    config = make_config(d_model=64)
    flow, grids = randomised(PriorFlow(config)), random_grids(config, [8])
    z = torch.randn(1, 8, 64)
    expected, log_det = flow(z, grids)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        noise, cast_log_det = flow(z, grids)
        back = flow.inverse(noise, grids)
    assert noise.dtype == cast_log_det.dtype == back.dtype == torch.float32
    assert_close(cast_log_det, log_det, rtol=0.05, atol=2.0)
    assert float((back - z).abs().mean()) < 0.1
    linear = InvertibleLinear(64, strided=False)
    linear.reset_parameters()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(linear.inverse(linear(z, grids)[0], grids), z, rtol=1e-4, atol=1e-4)
    flow.bfloat16()
    grids = random_grids(config, [8], dtype=torch.bfloat16)
    assert flow(z.bfloat16(), grids)[0].dtype == torch.float32


def test_positions_have_no_last_one() -> None:
    table = sinusoids(5000, 6, torch.zeros(()))
    assert_close(table[0, :3], torch.tensor([math.sin(1), math.sin(10000 ** (-1 / 3)), math.sin(10000 ** (-2 / 3))]))
    assert_close(table[4999, 3], torch.tensor(math.cos(5000)), atol=1e-3, rtol=0)
    assert sinusoids(3, 5, torch.zeros((), dtype=torch.bfloat16)).shape == (3, 5)


def test_gaussian_log_density_covers_real_positions() -> None:
    noise = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    log_probs = torch.distributions.Normal(0, 1).log_prob(noise)
    expected = torch.stack([log_probs[0].sum(), log_probs[1, 0].sum()])
    assert_close(gaussian_log_prob(noise, mask), expected)


def test_standard_normal_is_finite_gaussian_and_the_same_for_any_length() -> None:
    labels = torch.tensor([[5, 6, 2], [7, 2, -100]])
    long, short = (standard_normal(TargetNoise(labels, training=False), length, 2, 3) for length in (400, 7))
    assert long.shape == (2, 400, 2, 3)
    assert torch.equal(long[:, :7], short)
    assert not torch.equal(long[0], long[1])
    assert abs(float(long.mean())) < 0.08 and abs(float(long.std()) - 1) < 0.05

    class Edge(TargetNoise):
        def uniform(self, size: int) -> torch.Tensor:
            return torch.tensor([[0.0, 1 - 2**-24]])

    assert_close(standard_normal(Edge(labels[:1], True), 2), torch.tensor([[-5.42, 5.30]]), rtol=0, atol=0.1)
