/* A template that puts the language to work: most statements, expressions, filters and tests. */
#ifndef TESTS_TEXT_WORKED_H
#define TESTS_TEXT_WORKED_H

static const char worked[] =
    "{% macro m(a, b='x') %}[{{ a ~ b }}]{{ caller() if caller else varargs|length }}{% endmacro %}"
    "{% set ns = namespace(s='', l=[]) %}"
    "{% for k, v in messages[0].items() if k != 'q' %}{% set ns.s = ns.s ~ k ~ v ~ 'y' * 200 %}"
    "{% set ns.l = ns.l + [loop.index] %}{{ loop.length }}{{ loop.nextitem }}{% endfor %}"
    "{% call m(ns.l) %}{{ ns.s|length }}{% endcall %}{{ m(1, 2, 3) }}"
    "{{ messages|tojson(indent=2) }}{{ messages[0]|string|upper|replace('U', 'v') }}"
    "{{ '%s %d'|format('a', 5) }}{{ '{:>5}'.format('é') }}{{ 'b,a'.split(',')|sort|join('-') }}"
    "{{ [1, 2, 3]|map('string')|select('in', ['1', '2'])|list }}{{ {'a': 1, 'b': [1.5, none]} }}"
    "{{ [{'g': 1}, {'g': 2}]|groupby('g') }}{{ range(9)|batch(2)|list }}{{ ['a', 'A']|unique|list "
    "}}"
    "{% filter indent(2) %}a\nb{% endfilter %}{% set z %}q{% endset %}{{ z }}"
    "{% for n in [[1, []]] recursive %}{{ n[0] }}{{ loop(n[1]) }}{% endfor %}"
    "{% with a = 1 %}{{ a }}{% endwith %}{{ strftime_now('%d %B') }}{{ dict(a=1)|dictsort }}"
    "{% generation %}{{ 'x'[::-1] }}{{ [1, 2][::-1] }}{% endgeneration %}";

#endif
