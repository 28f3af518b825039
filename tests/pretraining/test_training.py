"""Pre-training: the optimizer, the model's start, and going on from a checkpoint."""

from __future__ import annotations

import torch

from lift_eval.tiny import model, tokenizer
from pretraining import pretrain
from pretraining.mixture import Mixture
from pretraining.muon import Muon, orthogonalize

TOKENIZER = tokenizer.build()


def test_orthogonalized_matrices_have_singular_values_near_one():
    for shape in ((40, 40), (64, 24), (24, 64), (3, 16, 32)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalize(matrix))
        assert values.max() < 1.4
        assert values.median() > 0.6


def test_muon_finds_the_least_squares_solution():
    torch.manual_seed(0)
    target, bias = torch.randn(8, 8), torch.randn(8)
    matrix, vector = torch.nn.Parameter(torch.zeros(8, 8)), torch.nn.Parameter(torch.zeros(8))
    optimizer = Muon([matrix], [vector], lr=0.05, others_lr=0.05)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - step / 400)
        x = torch.randn(64, 8)
        ((x @ matrix + vector - x @ target - bias) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (matrix - target).abs().max() < 0.1
    assert (vector - bias).abs().max() < 0.1


def test_the_first_heads_look_a_few_tokens_back_from_the_start():
    config = model.config(TOKENIZER)
    config._attn_implementation = "eager"
    net = model.new(config, seed=0)
    ids = torch.randint(3, len(TOKENIZER), (1, 60), generator=torch.Generator().manual_seed(1))
    attention = net(ids, output_attentions=True).attentions[0][0]
    for head, back in enumerate(model.LOOK_BACK):
        assert attention[head].diagonal(-back).mean() > 0.4


def test_the_learning_rate_rises_holds_and_falls():
    shares = [pretrain.rate(step, 1000) for step in range(1000)]
    assert shares[0] < 0.05
    assert shares[300] == shares[590] == 1.0
    assert 0 < shares[999] < 0.01


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path):
    mixture = Mixture(TOKENIZER, seed=1, rows=1, length=192)

    def begin():
        net = model.new(model.config(TOKENIZER), seed=1)
        return net, pretrain.optimizer_of(net)

    def steps(net, optimizer, first, last):
        return [pretrain.train_step(net, optimizer, mixture.batch(step), 1.0) for step in range(first, last)]

    net, optimizer = begin()
    whole = steps(net, optimizer, 0, 4)
    other, other_optimizer = begin()
    steps(other, other_optimizer, 0, 2)
    pretrain.save_state(tmp_path, other, other_optimizer, 2, 10.0)
    resumed, resumed_optimizer = begin()
    assert pretrain.load_state(tmp_path, resumed, resumed_optimizer) == (2, 10.0)
    assert steps(resumed, resumed_optimizer, 2, 4) == whole[2:]
    for one, two in zip(net.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_run_without_a_state_begins_at_the_beginning(tmp_path):
    net = model.new(model.config(TOKENIZER), seed=1)
    assert pretrain.load_state(tmp_path, net, pretrain.optimizer_of(net)) == (0, 0.0)
