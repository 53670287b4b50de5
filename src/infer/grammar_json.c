/* Texts are bounded where a model might not find an end: indents, digits. */
#include "infer/grammar_json.h"

#include <stdlib.h>
#include <string.h>

enum { POINTER_BYTES_MAX = 256 };

#define RANGES(text) (text), sizeof(text) - 1

void json_text(struct compiler *c, uint32_t rule, const char *text)
{
    rules_begin(c->r, rule);
    rules_text(c->r, text);
    rules_end(c->r);
}

uint32_t json_space_rule(struct compiler *c)
{
    enum { INDENT_MAX = 16 };
    if (c->space != NONE) {
        return (uint32_t)c->space;
    }
    const uint32_t blank = rules_new(c->r);
    json_text(c, blank, " ");
    const uint32_t indent = rules_repeat(c->r, blank, 0, INDENT_MAX);
    const uint32_t rule = rules_new(c->r);
    json_text(c, rule, "");
    json_text(c, rule, " ");
    rules_begin(c->r, rule);
    rules_text(c->r, "\n");
    rules_ref(c->r, indent);
    rules_end(c->r);
    c->space = (int)rule;
    return rule;
}

static void multibyte(struct compiler *c, uint32_t rule, const char *first, const char *second,
                      int more)
{
    rules_begin(c->r, rule);
    rules_class(c->r, first, 2);
    rules_class(c->r, second, 2);
    for (int i = 0; i < more; i++) {
        rules_class(c->r, RANGES("\x80\xbf"));
    }
    rules_end(c->r);
}

uint32_t json_character_rule(struct compiler *c)
{
    if (c->character != NONE) {
        return (uint32_t)c->character;
    }
    const uint32_t rule = rules_new(c->r);
    rules_begin(c->r, rule);
    rules_class(c->r, RANGES("\x20!#[]\x7e"));
    rules_end(c->r);
    rules_begin(c->r, rule);
    rules_class(c->r, RANGES("\xc2\xdf"));
    rules_class(c->r, RANGES("\x80\xbf"));
    rules_end(c->r);
    multibyte(c, rule, "\xe0\xe0", "\xa0\xbf", 1);
    multibyte(c, rule, "\xe1\xec", "\x80\xbf", 1);
    multibyte(c, rule, "\xed\xed", "\x80\x9f", 1);
    multibyte(c, rule, "\xee\xef", "\x80\xbf", 1);
    multibyte(c, rule, "\xf0\xf0", "\x90\xbf", 2);
    multibyte(c, rule, "\xf1\xf3", "\x80\xbf", 2);
    multibyte(c, rule, "\xf4\xf4", "\x80\x8f", 2);
    rules_begin(c->r, rule);
    rules_text(c->r, "\\");
    rules_class(c->r, RANGES("\"\"//\\\\bbffnnrrtt"));
    rules_end(c->r);
    rules_begin(c->r, rule);
    rules_text(c->r, "\\u");
    rules_class(c->r, RANGES("09acefACEF"));
    for (int i = 0; i < 3; i++) {
        rules_class(c->r, RANGES("09afAF"));
    }
    rules_end(c->r);
    c->character = (int)rule;
    return rule;
}

uint32_t json_string_rule(struct compiler *c, int low, int high)
{
    const bool plain = low == 0 && high < 0;
    if (plain && c->string != NONE) {
        return (uint32_t)c->string;
    }
    const uint32_t characters = rules_repeat(c->r, json_character_rule(c), low, high);
    const uint32_t rule = rules_new(c->r);
    rules_begin(c->r, rule);
    rules_text(c->r, "\"");
    rules_ref(c->r, characters);
    rules_text(c->r, "\"");
    rules_end(c->r);
    c->string = plain ? (int)rule : c->string;
    return rule;
}

static uint32_t digits_rule(struct compiler *c, int low, int high)
{
    const uint32_t digit = rules_new(c->r);
    rules_begin(c->r, digit);
    rules_class(c->r, RANGES("09"));
    rules_end(c->r);
    return rules_repeat(c->r, digit, low, high);
}

/* Digits are bounded, so that a number ends. */
uint32_t json_integer_rule(struct compiler *c, bool negative)
{
    enum { DIGITS_MAX = 15 };
    if (negative && c->integer != NONE) {
        return (uint32_t)c->integer;
    }
    const uint32_t rest = digits_rule(c, 0, DIGITS_MAX - 1);
    const uint32_t rule = rules_new(c->r);
    for (int sign = 0; sign <= (negative ? 1 : 0); sign++) {
        rules_begin(c->r, rule);
        rules_text(c->r, sign ? "-" : "");
        rules_class(c->r, RANGES("19"));
        rules_ref(c->r, rest);
        rules_end(c->r);
    }
    json_text(c, rule, "0");
    c->integer = negative ? (int)rule : c->integer;
    return rule;
}

uint32_t json_number_rule(struct compiler *c, bool negative)
{
    enum { FRACTION_MAX = 15 };
    if (negative && c->number != NONE) {
        return (uint32_t)c->number;
    }
    const uint32_t whole = json_integer_rule(c, negative);
    const uint32_t fraction_digits = digits_rule(c, 1, FRACTION_MAX);
    const uint32_t exponent_digits = digits_rule(c, 1, 2);
    const uint32_t fraction = rules_new(c->r);
    json_text(c, fraction, "");
    rules_begin(c->r, fraction);
    rules_text(c->r, ".");
    rules_ref(c->r, fraction_digits);
    rules_end(c->r);
    const uint32_t exponent = rules_new(c->r);
    json_text(c, exponent, "");
    for (int sign = 0; sign < 3; sign++) {
        rules_begin(c->r, exponent);
        rules_class(c->r, RANGES("eeEE"));
        rules_text(c->r, sign == 0 ? "" : sign == 1 ? "+" : "-");
        rules_ref(c->r, exponent_digits);
        rules_end(c->r);
    }
    const uint32_t rule = rules_new(c->r);
    rules_begin(c->r, rule);
    rules_ref(c->r, whole);
    rules_ref(c->r, fraction);
    rules_ref(c->r, exponent);
    rules_end(c->r);
    c->number = negative ? (int)rule : c->number;
    return rule;
}

uint32_t json_list_rule(struct compiler *c, const char *open, uint32_t item, const char *close,
                        int low, int high)
{
    const uint32_t space = json_space_rule(c);
    const uint32_t next = rules_new(c->r);
    rules_begin(c->r, next);
    rules_text(c->r, ",");
    rules_ref(c->r, space);
    rules_ref(c->r, item);
    rules_end(c->r);
    const uint32_t more = rules_repeat(c->r, next, low > 1 ? low - 1 : 0, high < 0 ? -1 : high - 1);
    const uint32_t rule = rules_new(c->r);
    if (low == 0) {
        rules_begin(c->r, rule);
        rules_text(c->r, open);
        rules_text(c->r, close);
        rules_end(c->r);
    }
    if (high != 0) {
        rules_begin(c->r, rule);
        rules_text(c->r, open);
        rules_ref(c->r, space);
        rules_ref(c->r, item);
        rules_ref(c->r, more);
        rules_ref(c->r, space);
        rules_text(c->r, close);
        rules_end(c->r);
    }
    return rule;
}

uint32_t json_member_rule(struct compiler *c, uint32_t name, uint32_t value)
{
    const uint32_t space = json_space_rule(c);
    const uint32_t rule = rules_new(c->r);
    rules_begin(c->r, rule);
    rules_ref(c->r, name);
    rules_text(c->r, ":");
    rules_ref(c->r, space);
    rules_ref(c->r, value);
    rules_end(c->r);
    return rule;
}

uint32_t json_value_rule(struct compiler *c)
{
    if (c->value != NONE) {
        return (uint32_t)c->value;
    }
    const uint32_t rule = rules_new(c->r);
    c->value = (int)rule;
    const uint32_t string = json_string_rule(c, 0, -1);
    const uint32_t number = json_number_rule(c, true);
    c->object = (int)json_list_rule(c, "{", json_member_rule(c, string, rule), "}", 0, -1);
    c->array = (int)json_list_rule(c, "[", rule, "]", 0, -1);
    const uint32_t parts[] = {string, number, (uint32_t)c->object, (uint32_t)c->array};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        rules_begin(c->r, rule);
        rules_ref(c->r, parts[i]);
        rules_end(c->r);
    }
    json_text(c, rule, "true");
    json_text(c, rule, "false");
    json_text(c, rule, "null");
    return rule;
}

json_t *json_follow(json_t *root, const char *pointer)
{
    json_t *at = root;
    while (*pointer == '/' && at != NULL) {
        char name[POINTER_BYTES_MAX];
        size_t n = 0;
        for (pointer++; *pointer != '\0' && *pointer != '/' && n + 1 < sizeof name; n++) {
            const bool escaped = pointer[0] == '~' && (pointer[1] == '0' || pointer[1] == '1');
            name[n] = !escaped ? *pointer : pointer[1] == '0' ? '~' : '/';
            pointer += escaped ? 2 : 1;
        }
        name[n] = '\0';
        at = json_is_array(at) ? json_array_get(at, (size_t)strtoul(name, NULL, 10))
                               : json_object_get(at, name);
    }
    return *pointer == '\0' ? at : NULL;
}
