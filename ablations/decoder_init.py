"""Does a text decoder that starts from BERT caption better than a random one? The paper: similar performance (p. 5).

The paper cites Wang et al. (2020) for it; no numbers of its own on it were found. All arms, the blind floor too, have a decoder
of BERT's shape and BERT's word pieces, cut down to those that the training captions use; they differ in initial values
alone. Small profiles take the first layers of MiniLM, a distilled BERT made for sentence similarity, the paper profile
the first six of bert-base-uncased. Each arm trains at learning rates of its own: a decoder that starts from BERT may want
smaller ones.

Another BERT, by folder or hub name: `--cfg-options model.decoder_init.path=FOLDER`. One of another width needs a decoder
of its shape: copy this file and name a `bert_...` variant of `gitbench/variants/decoder.py`.
"""

from gitbench.spec import Ablation, Arm, Claim

ARMS = {"base": "random", "bert": "bert"}
DECODERS = {
    "smoke": "bert_1x384",
    "cpu": "bert_1x384",
    "small-gpu": "bert_2x384",
    "gpu": "bert_6x384",
    "paper": "bert_6x768",
}

ABLATION = Ablation(
    name="decoder_init",
    title="Decoder initialisation",
    question="Does a text decoder that starts from BERT caption differently from one that starts from random values?",
    axis="decoder_init",
    common={
        "decoder": DECODERS,
        "text": {profile: "bert" if profile == "paper" else "bert_subset" for profile in DECODERS},
    },
    replicates={"cpu": 8},
    arms={
        profile: tuple(Arm(name=name, variants={"decoder_init": variant}) for name, variant in ARMS.items())
        for profile in DECODERS
    },
    claims=(
        Claim(
            name="random-as-bert",
            kind="equivalent",
            metric="CIDEr",
            treatment="base",
            reference="bert",
            says="A randomly initialised decoder performs like one initialised from BERT.",
            quote="random initialization shows similar performance, compared with the BERT initialization",
            where="p. 5",
            confidence="SQ",
        ),
    ),
)
