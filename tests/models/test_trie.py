"""Generation from a closed vocabulary against the score of every entry, and the trie that it goes along."""

from __future__ import annotations

import math

import pytest
import torch
from helpers_errors import refused
from helpers_model import BOS, EOS, VOCAB, both_attentions, nll_of, texts
from helpers_search import captioner, check, how, norm, photos, reference_search, uncached

from gitbench.models.trie import Trie

ENTRIES = [[7], [7, 8], [7, 8, 9, 10], [7, 9], [20], [20, 21, 22], [33, 7], [33, 8, 8], [90, 91, 92, 93, 94]]


def walk(trie):
    """List the entries that lead from the root to the end, by following edges."""
    found, open_paths, end = [], [(0, [])], len(trie.starts) - 2
    while open_paths:
        node, path = open_paths.pop()
        for edge in range(trie.starts[node], trie.starts[node + 1]):
            token, target = int(trie.tokens[edge]), int(trie.targets[edge])
            assert (token == EOS) == (target == end)
            if target == end:
                found.append(path)
            else:
                open_paths.append((target, [*path, token]))
    return sorted(found)


def scores_of_all(model, image, prefix, entries):
    """Log-probability of every entry and its [SEP] by teacher forcing."""
    width = len(prefix) + max(map(len, entries)) + 1
    tokens = torch.zeros(len(entries), width, dtype=torch.long)
    need = torch.zeros_like(tokens, dtype=torch.bool)
    for i, entry in enumerate(entries):
        end = len(prefix) + len(entry) + 1
        tokens[i, :end] = torch.tensor([*prefix, *entry, EOS])
        need[i, len(prefix) : end] = True
    nll, count = nll_of(model, image[None], tokens, need)
    assert count.tolist() == [len(entry) + 1 for entry in entries]
    return (-nll).tolist()


def among_the_entries(log_probs, start):
    """Rule out, without a trie, every token after which a text is the beginning of no entry."""

    def masked(row):
        said = row[len(start) :]
        follow = {[*entry, EOS][len(said)] for entry in ENTRIES if entry[: len(said)] == said}
        return [value if token in follow else -math.inf for token, value in enumerate(log_probs(row))]

    return masked


# -- the trie ---------------------------------------------------------------------------------------------------------


def test_trie_holds_the_entries_and_nothing_else():
    trie = Trie.of([*ENTRIES, [7, 8], ENTRIES[2]], EOS)
    assert walk(trie) == sorted(ENTRIES)
    assert (trie.entries, trie.longest) == (9, 5)
    assert trie.widths == (4, 3, 2, 1, 1, 1)  # after nothing: 7 20 33 90; after 7: 8 9 [SEP]; after 7 8: 9 [SEP] ...


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "the closed vocabulary is empty: pass at least one entry"),
        ([[5], []], "has no tokens: drop it"),
        ([[5, EOS]], r"holds \[SEP\] \(102\)"),
        ([[5, -1]], r"negative id: \[5, -1\]"),
    ],
)
def test_entries_that_cannot_be_said_are_refused(sequences, message):
    with refused(message):
        Trie.of(sequences, EOS)


# -- generation from it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
@both_attentions
def test_as_many_beams_as_entries_find_the_best_of_all(attention, penalty):
    model, images = captioner(4, eos=0.0, attention=attention), photos(4, 3, 32, 32, seed=4)
    entries = ENTRIES + [row[1 : 2 + i % 3].tolist() for i, row in enumerate(texts(30, 4, seed=5))]
    prefix, index = texts(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    expected, best = [], set()
    for row, length, image in zip(prefix, [1, 4, 2, 3, 1, 2], index, strict=True):
        row[length:] = 0
        start = row[:length].tolist()
        totals = scores_of_all(model, images[image], start, entries)
        values = [total / norm(length + len(e), penalty) for total, e in zip(totals, entries, strict=True)]
        k = max(range(len(entries)), key=values.__getitem__)
        best.add(k)
        expected.append((start + entries[k], values[k]))
    assert len(best) > 1
    for beams in (len(entries), 200):
        got = model.generate(
            images,
            prefix,
            image_index=index,
            **how(beams),
            length_penalty=penalty,
            max_length=10,
            vocabulary=Trie.of(entries, EOS),
        )
        check(*got, expected)


@pytest.mark.parametrize("penalty", [0.0, 8.0])  # 8: long entries win, after others have ended ahead of them
@pytest.mark.parametrize("beams", [0, 1, 2, 3, 5])
@both_attentions
def test_fewer_beams_search_as_the_official_search_among_the_entries(attention, beams, penalty):
    """Every result is an entry, its sum the model's own log-probability; the beams are those of a masked search."""
    model, images = captioner(3, attention=attention), photos(5, 3, 32, 32, seed=3)
    trie, prefix = Trie.of(ENTRIES, EOS), texts(5, 2)
    sequences, scores = model.generate(
        images, prefix, **how(beams), length_penalty=penalty, max_length=12, vocabulary=trie
    )
    expected = []
    for image, start in zip(images, prefix.tolist(), strict=True):
        masked = among_the_entries(uncached(model, image), start)
        expected.append(reference_search(masked, start, beams, penalty, 12))
        text, score = expected[-1]
        totals = scores_of_all(model, image, start, ENTRIES)
        assert score * norm(len(text), penalty) == pytest.approx(totals[ENTRIES.index(text[2:])], abs=1e-9)
    check(sequences, scores, expected)


@pytest.mark.parametrize("beams", [0, 1, 2, 4])
def test_an_entry_that_the_model_finds_impossible_is_said_all_the_same(beams):
    model = captioner(0).float()
    with torch.no_grad():
        model.head_bias[7] -= 1e6
        model.head_bias[EOS] += 1e4  # [SEP] at once is nearly certain, and no entry
    sequences, scores = model.generate(
        photos(2, 3, 32, 32).float(), **how(beams), length_penalty=0.0, vocabulary=Trie.of([[7], [7, 8]], EOS)
    )
    assert sequences.tolist() == [[BOS, 7, EOS]] * 2 and (scores < -9e5).all() and scores.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 7}, "max_length 7 is too short for a prefix of 2 ids .* of 5 tokens: use 8 or more"),
        ({"vocabulary": Trie.of([[5]], eos_id=3)}, "does not fit the model"),
        ({"vocabulary": Trie.of([[VOCAB]], EOS)}, "make it with the model's tokenizer"),
    ],
)
def test_errors_name_the_fix(options, message):
    given = {"vocabulary": Trie.of(ENTRIES, EOS), **options}
    with refused(message):
        captioner(0).generate(photos(2, 3, 32, 32), texts(2, 2), **given)
