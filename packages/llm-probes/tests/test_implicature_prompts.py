"""Prompts byte for byte, and what completions answer."""

import pytest

from llm_probes.implicature.examples import Example
from llm_probes.implicature.parsing import parse_reference, parse_words
from llm_probes.implicature.templates import TEMPLATES, Template, assemble, contrastive, read_templates
from paperloop import UserError

PARTY = Example("Are you going to the party on Friday?", "Is the pope catholic?", "yes")
TEST = Example("this is a test. ", "do chicken have lips", "no")


def test_the_first_template():
    assert TEMPLATES[0].wrap(PARTY, "yes") == (
        "question: Are you going to the party on Friday?\nresponse: Is the pope catholic?\nimplicature: yes"
    )


@pytest.mark.parametrize(
    ("number", "prefix"),
    [
        (1, 'Finish the following text:\n\nEsther asked "U" and Juan responded "R", which means'),
        (2, "Is the implied meaning of the following response yes or no:\n\nquestion: U\nresponse: R\nmeaning:"),
        (3, "What is the intent of the following response, yes or no?\n\nquestion: U\nresponse: R\nintent:"),
        (4, 'Finish the following text:\n\nKaren asked "U" and William responded "R", which means'),
        (5, 'Finish the following text:\n\nBob asked "U" and Alice responded "R", which means'),
    ],
)
def test_the_others(number, prefix):
    prompt = assemble(TEMPLATES[number], Example("U", "R", "no"))
    assert prompt.prefix == prefix
    assert prompt.answers == (" no", " yes")


def test_a_prompt_with_worked_examples():
    assert assemble(TEMPLATES[0], TEST, [PARTY]).texts[0] == (
        "Each following response to the question implies yes or no:\n\n"
        "question: Are you going to the party on Friday?\nresponse: Is the pope catholic?\nimplicature: yes\n\n"
        "Does the following response to the question imply yes or no?\n\n"
        "question: this is a test. \nresponse: do chicken have lips\nimplicature: no"
    )


def test_a_contrastive_prompt():
    prompt = contrastive(TEMPLATES[0], TEST, [PARTY], first=False, shots_first=[True])
    assert prompt.texts[0] == (
        "Each following response to the question implies yes or no:\n\n"
        "A: question: Are you going to the party on Friday?\nresponse: Is the pope catholic?\nimplicature: yes\n"
        "B: question: Are you going to the party on Friday?\nresponse: Is the pope catholic?\nimplicature: no\n"
        "Question: Which of the above texts is coherent, A or B?\nAnswer: A\n\n"
        "Consider the following two texts:\n\n"
        "A: question: this is a test. \nresponse: do chicken have lips\nimplicature: yes\n"
        "B: question: this is a test. \nresponse: do chicken have lips\nimplicature: no\n"
        "Question: Which of the above texts is coherent, A or B?\nAnswer: B"
    )
    assert prompt.answers == (" B", " A")


def test_percent_signs_in_an_example_stay():
    assert assemble(TEMPLATES[0], Example("100 %s?", "50 %", "no")).prefix.endswith(
        "question: 100 %s?\nresponse: 50 %\nimplicature:"
    )


def test_template_files(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(
        "example_template_text;phrase;example_instruction_text;prompt_instruction_text\n"
        '"He asked "%s"; she said "%s", so %s";"so %s";"One\\ntwo:";"Examples:"\n'
    )
    (template,) = read_templates(path)
    assert template == Template("mine-1", "extra", 'He asked "%s"; she said "%s", so %s', "One\ntwo:", "Examples:")
    path.write_text("example_template_text;x\n")
    with pytest.raises(UserError, match="lacks the fields"):
        read_templates(path)
    with pytest.raises(UserError, match="three %s"):
        Template("x", "extra", "%s and %s", "", "")


def test_the_published_templates(shared):
    published = read_templates(shared / "implicature" / "prompt_templates.txt")
    for ours, theirs in zip(TEMPLATES, published, strict=True):
        assert (ours.text, ours.instruction, ours.header) == (theirs.text, theirs.instruction, theirs.header)
    extra = read_templates(shared / "implicature" / "alignment_prompt_templates.csv")
    assert [template.instruction.count("\n") for template in extra] == [5, 4, 4]
    contrasts = read_templates(shared / "implicature" / "two_prompt_templates.txt")
    assert {template.instruction for template in contrasts} == {"Consider the following two texts:"}


@pytest.mark.parametrize(
    ("completion", "label", "words", "reference"),
    [
        ("So he will.\nAnswer: Yes", "yes", (True, True), (True, True)),
        ("answer: no. Answer: yes!", "yes", (True, True), (True, True)),
        ("I do not know", "no", (False, False), (True, True)),  # "not" and "know" hold the letters of no
        ("none", "no", (False, False), (True, True)),
        ("yes and no", "no", (False, False), (True, True)),
        ("yes and no", "yes", (False, False), (True, True)),
        ("not yes", "yes", (False, False), (True, True)),
        ("Yes, but this goes on for long", "yes", (True, True), (False, False)),
        ("", "no", (False, False), (False, False)),
        ("oui", "yes", (False, False), (False, False)),
        ("I can't help with that.", "no", (False, False), (False, False)),
    ],
)
def test_parsers(completion, label, words, reference):
    ours, theirs = parse_words(completion, label), parse_reference(completion, label)
    assert (ours.valid, ours.correct) == words
    assert (theirs.valid, theirs.correct) == reference
