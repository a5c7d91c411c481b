"""Completion in bash, zsh and fish: the scripts (`--completion`), and the answers to them.

It is click's own: a script calls the program with `_LUCID_CONV3D_COMPLETE` set, which prints what fits at the cursor.
The scripts are not click's, which know neither colons in words, nor `--option=value`, nor what a shell must quote. An
answer is a line a value: its kind (plain, file, dir or dataset), itself, and what it is, with tabs between. Whatever
goes wrong, or takes too long, answers nothing.
"""

import os
import shlex
import signal
from contextlib import suppress

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

SECONDS = 3.0
"""A user who waits for longer has typed the name."""
_CURSOR = "\x00"

_BASH = r"""%(complete_func)s() {
    local kind value what answer word=$2
    [[ ${COMP_WORDS[COMP_CWORD]} == [\'\"]* ]] && word=${COMP_WORDS[COMP_CWORD]:0:1}$2
    answer=$(%(complete_var)s=bash_complete COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_WORD="$word" "$1" 2>/dev/null)
    COMPREPLY=()
    while IFS=$'\t' read -r kind value what; do
        [[ -n $value ]] || continue
        if [[ $kind == file || $kind == dir ]]; then
            compopt -o filenames
            value=${value%%/}
        else
            [[ $value == *= ]] && compopt -o nospace
            [[ $word == [\'\"]* ]] || printf -v value %%q "$value"
            value=${value//\\,/,}
            [[ $kind == dataset && $COMP_TYPE == 63 && $answer == *$'\n'* ]] && value+="  ($what)"
        fi
        COMPREPLY+=("$value")
    done <<< "$answer"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
"""It lists datasets with their shapes when the key is pressed twice, and then inserts none."""
_ZSH = r"""#compdef %(prog_name)s

%(complete_func)s() {
    local line text answer
    local -a parts values shown
    answer=$(%(complete_var)s=zsh_complete COMP_WORDS="${(j: :)words[1,CURRENT]}" "${words[1]}" 2>/dev/null)
    for line in "${(@f)answer}"; do
        parts=("${(@ps:\t:)line}")
        text=$parts[2]
        [[ -n $text ]] || continue
        values=("${(q)text}")
        [[ $text == \~* ]] && values=("~${(q)text[2,-1]}")
        [[ -n $compstate[quote] ]] && values=("$text")
        shown=("$text${parts[3]:+  -- $parts[3]}")
        if [[ $text == *[=/] ]]; then
            compadd -Q -U -S '' -l -V lucid -d shown -a values
        else
            compadd -Q -U -l -V lucid -d shown -a values
        fi
    done
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = r"""function %(complete_func)s
    set -l program (commandline -opc)[1]
    for line in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) $program 2>/dev/null)
        set -l parts (string split \t -- $line)
        test (count $parts) -ge 2; and printf '%%s\t%%s\n' $parts[2] "$parts[3]"
    end
end

complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


class Shell(ShellComplete):
    """One shell: what stands before the cursor is in `COMP_WORDS`, and for bash what it replaces in `COMP_WORD`."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the whole words behind the program's name, and the word at the cursor."""
        words = _words(os.environ["COMP_WORDS"])
        return words[1:-1], words[-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what may stand in place of the part of the word at the cursor that the shell replaces."""
        option = incomplete[: incomplete.find("=") + 1] if incomplete.startswith("--") else ""
        replaced = _words(os.environ.get("COMP_WORD", ""))[-1] if self.name == "bash" else incomplete
        kept = len(incomplete) - len(replaced)
        found = super().get_completions(args, incomplete)
        return [CompletionItem((option + item.value)[kept:], item.type, item.help) for item in found]

    def format_completion(self, item: CompletionItem) -> str:
        """Return the line of a value; one that would be two lines, or two fields, cannot be offered."""
        what = " ".join((item.help or "").split())
        return f"{item.type}\t{item.value}\t{what}" if item.value.isprintable() else ""

    def complete(self) -> str:
        """Return all lines, or none where something goes wrong."""
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        with suppress(Exception):
            return super().complete()
        return ""


class Bash(Shell):
    """The answers to bash."""

    name = "bash"
    source_template = _BASH


class Zsh(Shell):
    """The answers to zsh."""

    name = "zsh"
    source_template = _ZSH


class Fish(Shell):
    """The answers to fish."""

    name = "fish"
    source_template = _FISH


SHELLS = {shell.name: shell for shell in (Bash, Zsh, Fish)}


def register() -> None:
    """Put these shells in the place of click's."""
    for shell in SHELLS.values():
        add_completion_class(shell)


def script(shell: str, command: click.Command) -> str:
    """Return the script that completes a command in a shell."""
    return SHELLS[shell](command, {}, "lucid-conv3d", "_LUCID_CONV3D_COMPLETE").source()


def _words(text: str) -> list[str]:
    """Split what stands before the cursor, with the shell's quotes; the last word is the one at the cursor."""
    lexer = shlex.shlex(text + _CURSOR, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:  # a quote is open
        words.append(lexer.token)
    words[-1] = words[-1].removesuffix(_CURSOR)
    return words
