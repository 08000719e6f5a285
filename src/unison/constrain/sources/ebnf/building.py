"""Which language do the definitions of a grammar in Lark's notation make?"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unison.constrain.language import Expr, Grammar, Ref, Repeat, Seq, refs
from unison.constrain.sources.ebnf import terminals
from unison.constrain.sources.ebnf.source import Call, Source
from unison.constrain.sources.reading import either
from unison.constrain.sources.rewriting import replaced

_IGNORED = "%ignore"
_WHOLE = "%start"
_MOST_INSTANCES = 2_000


def lexed(source: Source, start: str) -> Grammar:
    """Return the grammar whose terminals are lexemes, those that no text can need left out.

    Raises:
        ConstraintError: Unknown names, empty or endless terminals, misused templates.
    """
    _check(source, start)
    twins = terminals.twins(source)
    ignored = {twins[name]: at for name, at in source.ignored.items()}
    rules = _needed(source, start, {name: Ref(twin) for name, twin in twins.items()})
    used = {name for rule in rules.values() for name in refs(rule)} - rules.keys()
    for name in sorted(used & ignored.keys()):
        raise source.reader.error(
            f"terminal {name} is ignored, so no rule ever sees it, but one uses it", ignored[name]
        )
    lexemes = sorted(used | ignored.keys(), key=lambda name: terminals.precedence(source, name))
    texts = {name: terminals.lexeme(source, name) for name in lexemes}
    return Grammar(
        texts | rules, start, tuple(lexemes), frozenset(ignored), about=source.reader.about
    )


def scannerless(source: Source, start: str) -> Grammar:
    """Return the grammar whose rules read characters, what is ignored behind every terminal.

    Raises:
        ConstraintError: Unknown names, terminals that use themselves, misused templates.
    """
    _check(source, start)
    texts = {name: terminals.unfolded(source, name) for name in source.terminals}
    if not source.ignored:
        return Grammar(_needed(source, start, texts), start, about=source.reader.about)
    skip = Ref(_IGNORED)
    spaced: dict[str, Expr] = {name: Seq((text, skip)) for name, text in texts.items()}
    rules = _needed(source, start, spaced)
    rules[_IGNORED] = Repeat(either([texts[name] for name in source.ignored]))
    rules[_WHOLE] = Seq((skip, Ref(start)))
    return Grammar(rules, _WHOLE, about=source.reader.about)


def _check(source: Source, start: str) -> None:
    reader = source.reader
    for name, at in source.uses:
        if name not in source.rules and name not in source.terminals:
            known = [*source.rules, *filter(terminals.is_named, source.terminals)]
            raise reader.unknown("terminal" if name.isupper() else "rule", name, known, at)
    if start not in source.rules:
        raise reader.unknown("the start rule", start, source.rules, 0)


def _needed(source: Source, start: str, texts: Mapping[str, Expr]) -> dict[str, Expr]:
    """Return the rules that the start leads to, terminals replaced and templates filled in."""
    filling = _Filling(source, texts)
    filling.pending.append(Call(start, (), source.rules[start].at))
    while filling.pending:
        filling.rule(filling.pending.pop())
    return filling.rules


@dataclass
class _Filling:
    source: Source
    texts: Mapping[str, Expr]
    rules: dict[str, Expr] = field(default_factory=dict)
    pending: list[Call] = field(default_factory=list)

    def rule(self, call: Call) -> None:
        name = call.shown if call.args else call.template
        if name in self.rules:
            return
        self.check(call)
        rule = self.source.rules[call.template]
        given = dict(zip(rule.params, call.args, strict=True))
        self.rules[name] = replaced(rule.expr, lambda used: self.meant(used, given, call))

    def check(self, call: Call) -> None:
        reader, rule = self.source.reader, self.source.rules.get(call.template)
        if rule is None:
            raise reader.error(f"{call.template!r} is no rule that takes arguments", call.at)
        if len(rule.params) != len(call.args):
            raise reader.error(
                f"rule {call.template!r} takes {len(rule.params)} arguments, got {len(call.args)}",
                call.at,
            )
        if len(self.rules) >= _MOST_INSTANCES:
            raise reader.error(
                f"template {call.template!r} needs ever more rules: {_MOST_INSTANCES} and counting",
                call.at,
            )

    def meant(self, name: str, given: Mapping[str, str], user: Call) -> Expr:
        """Return what a name in a rule stands for, given the arguments of the rule."""
        return self.named(self.filled(name, given), user)

    def filled(self, name: str, given: Mapping[str, str]) -> str:
        call = self.source.calls.get(name)
        if call is None:
            return given.get(name, name)
        filled = Call(call.template, tuple(self.filled(arg, given) for arg in call.args), call.at)
        self.source.calls[filled.shown] = filled
        return filled.shown

    def named(self, name: str, user: Call) -> Expr:
        if name in self.texts:
            return self.texts[name]
        call = self.source.calls.get(name, Call(name, (), user.at))
        self.pending.append(call)
        return Ref(name)
