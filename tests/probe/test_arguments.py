"""The arguments: what is not allowed is named in one line, and ends with 2."""

import pytest

from mockservice.cli import main


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: URL"),
        (["gateway/mock"], "'gateway/mock': must be an http or https URL with a host"),
        (["ftp://gateway/"], "'ftp://gateway/': must be an http or https URL"),
        (["http:///mock"], "'http:///mock': must be an http or https URL"),
        (["http://me:secret@gateway/"], "without user name"),
        (["http://gateway/#x"], "and fragment"),
        (["http://gateway/a b"], "must be an http or https URL"),
        (["http://gateway:0/"], "a port from 1 to 65535"),
        (["http://gateway:65536/"], "must be an http or https URL"),
        (["http://[::1/"], "must be an http or https URL"),
        (["http://gateway/", "-n", "0"], "-n: '0': must be a number from 1 to 1000000"),
        (["http://gateway/", "-n", "1000001"], "-n: '1000001': must be a number"),
        (["http://gateway/", "-n", "1" * 5000], "must be a number from 1 to 1000000"),
        (["http://gateway/", "-n", "ten"], "-n: 'ten': must be a number"),
        (["http://gateway/", "-n", "\u0662"], "must be a number"),
        (["http://gateway/", "--concurrency", "257"], "'257': must be a number from 1 to 256"),
        (["http://gateway/", "--timeout", "0"], "'0': must be seconds, more than 0"),
        (["http://gateway/", "--timeout", "nan"], "'nan': must be seconds"),
        (["http://gateway/", "--timeout", "3601"], "at most 3600"),
        (["http://gateway/", "--header", "x-lane"], "must be a header name, a colon and a value"),
        (["http://gateway/", "--header", ": v2"], "must be a header name, a colon and a value"),
        (["http://gateway/", "--header", "x lane: v2"], "must be a header name"),
        (["http://gateway/", "--header", "x-lane: a\r\nb: c"], "without control characters"),
        (["http://gateway/", "--header", "Accept: */*"], "no header that HTTP or the probe sets"),
        (["http://gateway/", "--header", "content-length: 5"], "no header that HTTP"),
        (["http://gateway/", "--expect", "v1"], "'v1': must be lanes, each once, with weights"),
        (["http://gateway/", "--expect", "v1=1,v1=2"], "each once"),
        (["http://gateway/", "--expect", "v1=-1"], "weights of 0 or more"),
        (["http://gateway/", "--expect", "v1=inf"], "weights of 0 or more"),
        (["http://gateway/", "--expect", "v1=60,"], "must be lanes"),
        (["http://gateway/", "--expect", "v1=0,v2=0"], "one at least has a weight"),
        (["http://gateway/", "--expect", "v1=1e308,v2=1e308"], "one at least has a weight"),
        (["http://gateway/", "--wait"], "unrecognized arguments: --wait"),
    ],
)
def test_bad_arguments(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert line in printed.err.splitlines()[-1]


def test_help_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--help"]) == 0
    assert "--baseline" in capsys.readouterr().out
