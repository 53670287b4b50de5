/* Recursive descent, straight to rules. A part remembers how many characters it takes and, where it
 * repeats one character, which: that is what lengths stretch. */
#include "infer/grammar_regex.h"

#include <ctype.h>
#include <string.h>

#include "base/utf8.h"
#include "infer/grammar.h"
#include "infer/grammar_chars.h"

enum { GROUPS_DEEP_MAX = 24, PARTS_MAX = 200, LENGTH_MAX = 1 << 20 };

struct part {
    uint32_t rule;
    int low, high;      /* characters; high < 0: any number */
    uint32_t unit;      /* one character, repeated low to high times, */
    bool is_repetition; /* if so */
};

struct regex {
    struct compiler *c;
    const char *word, *pattern;
    const char *at, *end;
    int deep;
};

static int refuse(const struct regex *x, const char *what)
{
    return err_set(x->c->err, ERR_INVALID, "'%s' \"%.120s\" in a schema: %s", x->word, x->pattern,
                   what);
}

static bool next_is(const struct regex *x, char c)
{
    return x->at < x->end && *x->at == c;
}

static bool take(struct regex *x, const char *text)
{
    const size_t n = strlen(text);
    if ((size_t)(x->end - x->at) < n || memcmp(x->at, text, n) != 0) {
        return false;
    }
    x->at += n;
    return true;
}

/* --- characters --- */

/* Dialects differ beyond ASCII: what is added is of the class in all of them. */
static void add_class(struct char_set *set, char letter)
{
    static const struct char_range spaces[] = {
        {'\t', '\r'},     {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},
        {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200B}, {0x2028, 0x2029},
        {0x202F, 0x202F}, {0x205F, 0x2060}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    struct char_set own = {.n = 0};
    const char lower = (char)tolower((unsigned char)letter);
    if (lower != 's') {
        char_set_add(&own, '0', '9');
    }
    if (lower == 'w') {
        char_set_add(&own, 'A', 'Z');
        char_set_add(&own, 'a', 'z');
        char_set_add(&own, '_', '_');
    }
    if (letter == 's') {
        char_set_add(&own, '\t', '\r');
        char_set_add(&own, ' ', ' ');
    }
    for (size_t i = 0; letter == 'S' && i < sizeof spaces / sizeof spaces[0]; i++) {
        char_set_add(&own, spaces[i].first, spaces[i].last);
    }
    if (letter == 'W') {
        char_set_add(&own, 128, CHAR_LAST);
    }
    if (letter != lower) {
        char_set_negate(&own);
    }
    char_set_add_set(set, &own);
}

/* `n` hexadecimal digits. */
static int read_hex(struct regex *x, int n, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < n; i++, x->at++) {
        const int c = x->at < x->end ? (unsigned char)*x->at : 0;
        if (!isxdigit(c)) {
            return refuse(x, "an escape is not complete");
        }
        *out = *out * 16 + (uint32_t)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return 0;
}

static int read_unicode(struct regex *x, uint32_t *out)
{
    uint32_t low = 0;
    if (take(x, "{")) {
        int n = 0;
        while (x->at + n < x->end && x->at[n] != '}') {
            n++;
        }
        const int rc = n > 0 && n <= 6 ? read_hex(x, n, out) : refuse(x, "\\u{} holds no number");
        x->at += rc == 0 ? 1 : 0;
        return rc;
    }
    int rc = read_hex(x, 4, out);
    if (rc == 0 && *out >= 0xD800 && *out <= 0xDBFF && take(x, "\\u")) {
        rc = read_hex(x, 4, &low);
        *out = 0x10000 + ((*out - 0xD800) << 10) + ((low - 0xDC00) & 0x3FF);
    }
    return rc;
}

/* Behind a backslash: a class is added to the set; of one character *out tells which, else -1. */
static int read_escape(struct regex *x, bool in_class, struct char_set *set, int64_t *out)
{
    static const char letters[] = "tnrfv";
    static const char controls[] = "\t\n\r\f\v";
    *out = -1;
    if (x->at == x->end) {
        return refuse(x, "it ends with a backslash");
    }
    const char letter = *x->at++;
    const char *known = strchr(letters, letter);
    uint32_t code = 0;
    int rc = 0;
    if (letter != '\0' && strchr("dDwWsS", letter) != NULL) {
        add_class(set, letter);
        return 0;
    }
    if (letter == 'u' || letter == 'x') {
        rc = letter == 'u' ? read_unicode(x, &code) : read_hex(x, 2, &code);
    } else if (known != NULL && letter != '\0') {
        code = (unsigned char)controls[known - letters];
    } else if (letter == '0' && !(x->at < x->end && isdigit((unsigned char)*x->at))) {
        code = 0;
    } else if (letter == 'b' && in_class) {
        code = '\b';
    } else if (isdigit((unsigned char)letter) || letter == 'k') {
        return refuse(x, "back-references are not supported");
    } else if (letter == 'b' || letter == 'B') {
        return refuse(x, "\\b and \\B are not supported");
    } else if (letter == 'p' || letter == 'P') {
        return refuse(x, "\\p{…} is not supported");
    } else if (isalnum((unsigned char)letter)) {
        return refuse(x, "an escape is unknown");
    } else {
        x->at--;
        x->at += utf8_decode(x->at, (size_t)(x->end - x->at), &code);
    }
    *out = code;
    return rc;
}

static int read_class_member(struct regex *x, struct char_set *set, int64_t *out)
{
    uint32_t code = 0;
    if (take(x, "\\")) {
        return read_escape(x, true, set, out);
    }
    x->at += utf8_decode(x->at, (size_t)(x->end - x->at), &code);
    *out = code;
    return 0;
}

/* Behind an opening bracket. */
static int read_class(struct regex *x, struct char_set *set)
{
    const bool negated = take(x, "^");
    while (!next_is(x, ']')) {
        int64_t first = -1;
        int64_t last = -1;
        if (x->at >= x->end) {
            return refuse(x, "a bracket is not closed");
        }
        int rc = read_class_member(x, set, &first);
        if (rc == 0 && first >= 0 && next_is(x, '-') && x->at + 1 < x->end && x->at[1] != ']') {
            x->at++;
            rc = read_class_member(x, set, &last);
            if (rc == 0 && last < first) {
                rc = refuse(x, "a range of characters runs backwards");
            }
        } else {
            last = first;
        }
        if (rc != 0) {
            return rc;
        }
        if (first >= 0) {
            char_set_add(set, (uint32_t)first, (uint32_t)last);
        }
    }
    x->at++;
    if (negated) {
        char_set_negate(set);
    }
    if (set->n == 0) {
        return refuse(x, "a class is empty");
    }
    return set->full ? refuse(x, "a class has too many ranges") : 0;
}

static int one_character(struct regex *x, struct part *out)
{
    struct char_set set = {.n = 0};
    int64_t code = -1;
    int rc = 0;
    if (take(x, "[")) {
        rc = read_class(x, &set);
    } else if (take(x, "\\")) {
        rc = read_escape(x, false, &set, &code);
    } else if (take(x, ".")) {
        char_set_add(&set, '\n', '\n');
        char_set_add(&set, '\r', '\r');
        char_set_add(&set, 0x2028, 0x2029);
        char_set_negate(&set);
    } else {
        rc = read_class_member(x, &set, &code);
    }
    if (code >= 0) {
        char_set_add(&set, (uint32_t)code, (uint32_t)code);
    }
    const struct part part = {.low = 1, .high = 1, .is_repetition = true};
    *out = part;
    out->rule = out->unit = rc == 0 ? char_set_rule(x->c, &set) : 0;
    return rc;
}

/* --- groups and repetitions --- */

static int alternatives(struct regex *x, struct part *out);

/* Behind an opening parenthesis. */
static int group(struct regex *x, struct part *out)
{
    if (take(x, "?")) {
        if (take(x, "=") || take(x, "!") || take(x, "<=") || take(x, "<!")) {
            return refuse(x, "look-around is not supported");
        }
        if (take(x, "<")) {
            while (x->at < x->end && *x->at++ != '>') {
            }
        } else if (!take(x, ":")) {
            return refuse(x, "flags inside of a pattern are not supported");
        }
    }
    if (++x->deep > GROUPS_DEEP_MAX) {
        return refuse(x, "groups are nested too deep");
    }
    const int rc = alternatives(x, out);
    x->deep--;
    return rc != 0 ? rc : take(x, ")") ? 0 : refuse(x, "a parenthesis is not closed");
}

static int atom(struct regex *x, struct part *out)
{
    if (take(x, "(")) {
        return group(x, out);
    }
    if (next_is(x, '^') || next_is(x, '$')) {
        return refuse(x, "^ and $ are supported at its ends only");
    }
    if (next_is(x, '*') || next_is(x, '+') || next_is(x, '?')) {
        return refuse(x, "nothing stands before a quantifier");
    }
    return one_character(x, out);
}

static bool read_number(const char **at, const char *end, int *out)
{
    const char *from = *at;
    int value = 0;
    while (*at < end && isdigit((unsigned char)**at)) {
        value = value <= GRAMMAR_REPEATS_MAX ? 10 * value + (**at - '0') : value;
        (*at)++;
    }
    *out = value;
    return *at > from;
}

/* {m} {m,} {m,n}; false when the brace stands for itself. */
static bool read_braces(struct regex *x, int *low, int *high)
{
    const char *at = x->at + 1;
    bool good = read_number(&at, x->end, low);
    *high = *low;
    if (good && at < x->end && *at == ',') {
        at++;
        if (!read_number(&at, x->end, high)) {
            *high = -1;
        }
    }
    good = good && at < x->end && *at == '}';
    x->at = good ? at + 1 : x->at;
    return good;
}

/* The product of two counts, of which negative ones are boundless. */
static int times(int a, int b)
{
    if (a == 0 || b == 0) {
        return 0;
    }
    return a < 0 || b < 0 || (int64_t)a * b > LENGTH_MAX ? -1 : a * b;
}

static int quantified(struct regex *x, struct part *out)
{
    int low = 1;
    int high = 1;
    const int rc = atom(x, out);
    if (rc != 0) {
        return rc;
    }
    if (take(x, "*")) {
        low = 0;
        high = -1;
    } else if (take(x, "+")) {
        high = -1;
    } else if (take(x, "?")) {
        low = 0;
    } else if (!next_is(x, '{') || !read_braces(x, &low, &high)) {
        return 0;
    }
    (void)take(x, "?"); /* lazy: the same texts */
    if (next_is(x, '+') || next_is(x, '*')) {
        return refuse(x, "a quantifier stands behind a quantifier");
    }
    if (low > GRAMMAR_REPEATS_MAX || high > GRAMMAR_REPEATS_MAX || (high >= 0 && high < low)) {
        return refuse(x, "a quantifier is too large, or leaves nothing");
    }
    if (high < 0 && out->low == 0) {
        return refuse(x, "what is repeated without end may be empty");
    }
    const bool unit = out->is_repetition && out->low == 1 && out->high == 1;
    const struct part part = {.rule = rules_repeat(x->c->r, out->rule, low, high),
                              .low = times(out->low, low) < 0 ? LENGTH_MAX : times(out->low, low),
                              .high = times(out->high, high),
                              .unit = out->rule,
                              .is_repetition = unit};
    *out = part;
    return 0;
}

/* --- sequences and alternatives --- */

struct sequence {
    struct part parts[PARTS_MAX];
    size_t n;
    int low, high;
};

static void append(struct sequence *s, const struct part *part)
{
    s->parts[s->n++] = *part;
    s->low = s->low + part->low > LENGTH_MAX ? LENGTH_MAX : s->low + part->low;
    s->high = s->high < 0 || part->high < 0 ? -1 : s->high + part->high;
}

static int read_sequence(struct regex *x, bool top, struct sequence *s)
{
    while (x->at < x->end && *x->at != '|' && *x->at != ')') {
        struct part part = {0};
        if (top && next_is(x, '$') && (x->at + 1 == x->end || x->at[1] == '|')) {
            return 0;
        }
        const int rc = quantified(x, &part);
        if (rc != 0) {
            return rc;
        }
        if (s->n >= PARTS_MAX - 2) {
            return refuse(x, "it is too long");
        }
        append(s, &part);
    }
    return 0;
}

static void put_sequence(struct compiler *c, uint32_t rule, const struct sequence *s)
{
    rules_begin(c->r, rule);
    for (size_t i = 0; i < s->n; i++) {
        rules_ref(c->r, s->parts[i].rule);
    }
    rules_end(c->r);
}

static int alternatives(struct regex *x, struct part *out)
{
    const uint32_t rule = rules_new(x->c->r);
    const struct part none = {.rule = rule};
    bool first = true;
    *out = none;
    do {
        struct sequence s = {.n = 0};
        const int rc = read_sequence(x, false, &s);
        if (rc != 0) {
            return rc;
        }
        put_sequence(x->c, rule, &s);
        out->low = first || s.low < out->low ? s.low : out->low;
        out->high = first                         ? s.high
                    : out->high < 0 || s.high < 0 ? -1
                    : s.high > out->high          ? s.high
                                                  : out->high;
        first = false;
    } while (take(x, "|"));
    return 0;
}

/* Makes a sequence keep the lengths; false when it cannot, s->n == 0 then: it matches nothing. */
static int stretch(struct regex *x, struct sequence *s, int low, int high, bool *any)
{
    struct part *loose = NULL;
    *any = high < 0 || s->low <= high;
    if (!*any || (s->low >= low && (high < 0 || (s->high >= 0 && s->high <= high)))) {
        return 0;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->parts[i].low != s->parts[i].high) {
            if (loose != NULL || !s->parts[i].is_repetition) {
                return refuse(x, "minLength or maxLength beside it cannot be kept");
            }
            loose = &s->parts[i];
        }
    }
    *any = loose != NULL && (s->high < 0 || s->high >= low);
    if (*any) {
        const int fixed = s->low - loose->low;
        const int least = low - fixed > loose->low ? low - fixed : loose->low;
        const int most = high < 0                                        ? loose->high
                         : loose->high < 0 || loose->high > high - fixed ? high - fixed
                                                                         : loose->high;
        loose->rule = rules_repeat(x->c->r, loose->unit, least, most);
    }
    return 0;
}

static int top(struct regex *x, int low, int high, uint32_t *rule)
{
    const uint32_t character = json_character_rule(x->c);
    const struct part anything = {.rule = rules_repeat(x->c->r, character, 0, -1),
                                  .high = -1,
                                  .unit = character,
                                  .is_repetition = true};
    bool some = false;
    *rule = rules_new(x->c->r);
    do {
        struct sequence s = {.n = 0};
        bool any = false;
        if (!take(x, "^")) {
            append(&s, &anything);
        }
        int rc = read_sequence(x, true, &s);
        if (rc == 0 && !take(x, "$")) {
            append(&s, &anything);
        }
        rc = rc == 0 ? stretch(x, &s, low, high, &any) : rc;
        if (rc != 0) {
            return rc;
        }
        if (any) {
            put_sequence(x->c, *rule, &s);
            some = true;
        }
    } while (take(x, "|"));
    if (x->at < x->end) {
        return refuse(x, "a parenthesis is not opened");
    }
    return some ? 0 : refuse(x, "minLength and maxLength beside it leave nothing");
}

int regex_rule(struct compiler *c, const char *word, const char *pattern, size_t n, int low,
               int high, uint32_t *rule)
{
    struct regex x = {.c = c, .word = word, .pattern = pattern, .at = pattern, .end = pattern + n};
    if (!utf8_valid(pattern, n)) {
        return refuse(&x, "it is no UTF-8");
    }
    return top(&x, low, high, rule);
}
