/* A bound is digits before and behind the point. Digits are chosen from the left; while those so
 * far are the bound's own the next one is bound too (`low`, `high` not NULL), after that any will
 * do.
 *
 * Whole numbers carry the remainder by the divisor along; free ones of one length and remainder
 * share their rule. Numbers with a fraction take one bound's whole part, or one in between. */
#include "infer/grammar_number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { DIGITS_MAX = 15, PLACES_MAX = 12, DIVISOR_MAX = 250, TEXT_BYTES = 64 };

struct bound {
    bool given, strict, negative;
    int64_t whole;                 /* of the absolute value */
    char fraction[PLACES_MAX + 1]; /* digits behind the point, zeros at the end: PLACES_MAX */
};

struct numbers {
    struct compiler *c;
    bool whole;
    int divisor, places;
    int free[DIGITS_MAX + 1][DIVISOR_MAX]; /* rules by digits left and remainder, NONE until made */
    int digits[PLACES_MAX + 1];            /* up to so many digits, NONE until made */
};

static const int64_t whole_end = INT64_C(1000000000000000); /* 10 to the power of DIGITS_MAX */

static int refuse(struct compiler *c, const char *name, const char *why)
{
    return err_set(c->err, ERR_INVALID, "'%s' in a schema %s", name, why);
}

/* --- bounds --- */

/* In decimal places, exactly as the schema's number reads back. */
static int read_bound(struct compiler *c, const char *name, double value, bool strict,
                      struct bound *out)
{
    char text[TEXT_BYTES];
    int places = 0;
    memset(out, 0, sizeof *out);
    if (!(value > -(double)whole_end && value < (double)whole_end)) {
        return refuse(c, name, "must be less than 10^15 either way");
    }
    do { /* the fewest places that read back as the same number */
        (void)snprintf(text, sizeof text, "%.*f", places, value);
    } while (strtod(text, NULL) != value && ++places <= PLACES_MAX);
    if (places > PLACES_MAX) {
        return refuse(c, name, "must have at most 12 decimal places");
    }
    const char *digits = text[0] == '-' ? text + 1 : text;
    const char *point = strchr(digits, '.');
    out->given = true;
    out->strict = strict;
    out->negative = value < 0.0;
    out->whole = strtoll(digits, NULL, 10);
    memset(out->fraction, '0', PLACES_MAX);
    if (point != NULL) {
        memcpy(out->fraction, point + 1, strlen(point + 1));
    }
    return 0;
}

/* <0, 0, >0 as a is below, at or above b; strictness aside. */
static int compare(const struct bound *a, const struct bound *b)
{
    if (a->negative != b->negative) {
        return a->negative ? -1 : 1;
    }
    const int order =
        a->whole != b->whole ? (a->whole < b->whole ? -1 : 1) : strcmp(a->fraction, b->fraction);
    return a->negative ? -order : order;
}

static void narrow(struct bound *bound, const struct bound *by, int direction)
{
    const int order = bound->given ? direction * compare(by, bound) : 1;
    if (order > 0 || (order == 0 && by->strict)) {
        *bound = *by;
    }
}

/* `exclusive` is a number of its own, or tells whether `inclusive` is meant strictly. */
static int read_side(struct compiler *c, const json_t *schema, const char *inclusive,
                     const char *exclusive, int direction, struct bound *out)
{
    const json_t *at = json_object_get(schema, inclusive);
    const json_t *beyond = json_object_get(schema, exclusive);
    struct bound bound;
    int rc = 0;
    if (at != NULL && !json_is_number(at)) {
        return refuse(c, inclusive, "must be a number");
    }
    if (beyond != NULL && !json_is_number(beyond) && !json_is_boolean(beyond)) {
        return refuse(c, exclusive, "must be a number");
    }
    if (at != NULL) {
        rc = read_bound(c, inclusive, json_number_value(at), json_is_true(beyond), &bound);
        if (rc == 0) {
            narrow(out, &bound, direction);
        }
    }
    if (rc == 0 && json_is_number(beyond)) {
        rc = read_bound(c, exclusive, json_number_value(beyond), true, &bound);
        if (rc == 0) {
            narrow(out, &bound, direction);
        }
    }
    return rc;
}

static int read_format(struct compiler *c, const json_t *schema, struct bound *low,
                       struct bound *high)
{
    static const struct {
        const char *name;
        double low, high; /* 0, 0: none that would bind */
    } rows[] = {{"int32", -2147483648.0, 2147483647.0},
                {"uint32", 0.0, 4294967295.0},
                {"uint64", 0.0, 999999999999999.0},
                {"int64", 0.0, 0.0},
                {"float", 0.0, 0.0},
                {"double", 0.0, 0.0}};
    const char *format = json_string_value(json_object_get(schema, "format"));
    for (size_t i = 0; format != NULL && i < sizeof rows / sizeof rows[0]; i++) {
        struct bound bound;
        int rc = 0;
        if (strcmp(format, rows[i].name) != 0) {
            continue;
        }
        if (rows[i].high > 0.0) {
            rc = read_bound(c, "format", rows[i].low, false, &bound);
            narrow(low, &bound, 1);
            rc = rc == 0 ? read_bound(c, "format", rows[i].high, false, &bound) : rc;
            narrow(high, &bound, -1);
        }
        return rc;
    }
    return format == NULL
               ? 0
               : err_set(c->err, ERR_INVALID,
                         "'format' \"%.60s\" of a number in a schema is not supported", format);
}

/* --- whole numbers --- */

static void put_digit(struct numbers *n, uint32_t rule, int first, int last, uint32_t rest)
{
    const char range[2] = {(char)('0' + first), (char)('0' + last)};
    rules_begin(n->c->r, rule);
    if (first == last) {
        rules_bytes(n->c->r, range, 1);
    } else {
        rules_class(n->c->r, range, sizeof range);
    }
    rules_ref(n->c->r, rest);
    rules_end(n->c->r);
}

/* `left` digits more, of the remainder so far; low and high are the bounds' digits that are left,
 * or NULL. */
static uint32_t whole_digits(struct numbers *n, int left, int remainder, const char *low,
                             const char *high, bool first)
{
    const bool open = low == NULL && high == NULL && !first;
    if (open && n->free[left][remainder] != NONE) {
        return (uint32_t)n->free[left][remainder];
    }
    const uint32_t rule = rules_new(n->c->r);
    if (left == 0) {
        if (remainder == 0) {
            json_text(n->c, rule, "");
        }
    } else {
        const int from = low != NULL ? *low - '0' : 0;
        const int to = high != NULL ? *high - '0' : 9;
        for (int digit = first && from == 0 ? 1 : from; digit <= to;) {
            const bool at_low = low != NULL && digit == from;
            const bool at_high = high != NULL && digit == to;
            int last = digit; /* free digits that leave the same remainder go together */
            while (n->divisor == 1 && !at_low && !at_high && last + (high != NULL) < to) {
                last++;
            }
            const uint32_t rest =
                whole_digits(n, left - 1, (remainder * 10 + digit) % n->divisor,
                             at_low ? low + 1 : NULL, at_high ? high + 1 : NULL, false);
            put_digit(n, rule, digit, last, rest);
            digit = last + 1;
        }
    }
    if (open) {
        n->free[left][remainder] = (int)rule;
    }
    return rule;
}

/* One alternative of `rule` for each length of low to high, both at least 0; `before` comes first,
 * `behind` last. */
static void put_whole(struct numbers *n, uint32_t rule, const char *before, int64_t low,
                      int64_t high, uint32_t behind)
{
    char low_text[TEXT_BYTES];
    char high_text[TEXT_BYTES];
    int64_t least = 1;
    if (low == 0 && high >= 0) {
        rules_begin(n->c->r, rule);
        rules_text(n->c->r, before);
        rules_text(n->c->r, "0");
        rules_ref(n->c->r, behind);
        rules_end(n->c->r);
        low = 1;
    }
    for (int length = 1; length <= DIGITS_MAX; length++, least *= 10) {
        const int64_t from = low > least ? low : least;
        const int64_t to = high < least * 10 - 1 ? high : least * 10 - 1;
        if (from > to) {
            continue;
        }
        (void)snprintf(low_text, sizeof low_text, "%lld", (long long)from);
        (void)snprintf(high_text, sizeof high_text, "%lld", (long long)to);
        const uint32_t digits = whole_digits(n, length, 0, from > least ? low_text : NULL,
                                             to < least * 10 - 1 ? high_text : NULL, true);
        rules_begin(n->c->r, rule);
        rules_text(n->c->r, before);
        rules_ref(n->c->r, digits);
        rules_ref(n->c->r, behind);
        rules_end(n->c->r);
    }
}

/* --- fractions --- */

static bool all_zeros(const char *digits)
{
    return digits[strspn(digits, "0")] == '\0';
}

static uint32_t up_to_digits(struct numbers *n, int most)
{
    if (n->digits[most] == NONE) {
        const uint32_t digit = rules_new(n->c->r);
        rules_begin(n->c->r, digit);
        rules_class(n->c->r, "09", 2);
        rules_end(n->c->r);
        n->digits[most] = (int)rules_repeat(n->c->r, digit, 0, most);
    }
    return (uint32_t)n->digits[most];
}

/* Digits behind the point from place `at` on; low and high: those of the bounds that are left, or
 * NULL. */
static uint32_t fraction_digits(struct numbers *n, int at, const struct bound *low,
                                const struct bound *high)
{
    if (low == NULL && high == NULL) {
        return up_to_digits(n, n->places - at);
    }
    const uint32_t rule = rules_new(n->c->r);
    const bool low_met = low == NULL || (all_zeros(low->fraction + at) && !low->strict);
    const bool high_met = high == NULL || !all_zeros(high->fraction + at) || !high->strict;
    if (low_met && high_met) {
        json_text(n->c, rule, "");
    }
    const int from = low != NULL && at < PLACES_MAX ? low->fraction[at] - '0' : 0;
    const int to = high != NULL && at < PLACES_MAX ? high->fraction[at] - '0' : 9;
    for (int digit = from; at < n->places && digit <= to; digit++) {
        const struct bound *next_low = low != NULL && digit == from ? low : NULL;
        const struct bound *next_high = high != NULL && digit == to ? high : NULL;
        put_digit(n, rule, digit, digit, fraction_digits(n, at + 1, next_low, next_high));
    }
    return rule;
}

/* Nothing, or a point and digits. */
static uint32_t fraction(struct numbers *n, const struct bound *low, const struct bound *high)
{
    const bool low_met = low == NULL || (all_zeros(low->fraction) && !low->strict);
    const bool high_met = high == NULL || !all_zeros(high->fraction) || !high->strict;
    const int from = low != NULL ? low->fraction[0] - '0' : 0;
    const int to = high != NULL ? high->fraction[0] - '0' : 9;
    const uint32_t first = rules_new(n->c->r);
    for (int digit = from; n->places > 0 && digit <= to; digit++) {
        const struct bound *next_low = low != NULL && digit == from ? low : NULL;
        const struct bound *next_high = high != NULL && digit == to ? high : NULL;
        put_digit(n, first, digit, digit, fraction_digits(n, 1, next_low, next_high));
    }
    const uint32_t rule = rules_new(n->c->r);
    if (low_met && high_met) {
        json_text(n->c, rule, "");
    }
    rules_begin(n->c->r, rule);
    rules_text(n->c->r, ".");
    rules_ref(n->c->r, first);
    rules_end(n->c->r);
    return rule;
}

/* --- both --- */

/* Absolute values from low to high, either of which may not be given. */
static void put_side(struct numbers *n, uint32_t rule, const char *sign, const struct bound *low,
                     const struct bound *high)
{
    const int64_t least = low->given ? low->whole : 0;
    const int64_t most = high->given ? high->whole : whole_end - 1;
    if (n->whole) {
        const bool up = low->given && (low->strict || !all_zeros(low->fraction));
        const bool down = high->given && high->strict && all_zeros(high->fraction);
        const uint32_t nothing = rules_new(n->c->r);
        json_text(n->c, nothing, "");
        put_whole(n, rule, sign, least + (up ? 1 : 0), most - (down ? 1 : 0), nothing);
        return;
    }
    const struct bound *below = low->given ? low : NULL;
    const struct bound *above = high->given ? high : NULL;
    if (below != NULL && above != NULL && least == most) {
        put_whole(n, rule, sign, least, most, fraction(n, below, above));
        return;
    }
    if (below != NULL && least <= most) {
        put_whole(n, rule, sign, least, least, fraction(n, below, NULL));
    }
    if (above != NULL && least <= most) {
        put_whole(n, rule, sign, most, most, fraction(n, NULL, above));
    }
    put_whole(n, rule, sign, least + (below != NULL), most - (above != NULL),
              fraction(n, NULL, NULL));
}

/* The divisor of multipleOf, or the decimal places that it leaves. */
static int read_multiple(struct numbers *n, const json_t *schema)
{
    const json_t *multiple = json_object_get(schema, "multipleOf");
    const double value = json_number_value(multiple);
    double unit = 1.0;
    if (multiple == NULL) {
        return 0;
    }
    if (json_is_number(multiple) && value >= 1.0 && value <= (double)DIVISOR_MAX &&
        value == (double)(int)value) {
        n->divisor = (int)value;
        n->whole = true;
        return 0;
    }
    for (int places = 1; places <= PLACES_MAX && !n->whole; places++) {
        unit *= 10.0;
        if (json_is_number(multiple) && value == 1.0 / unit) {
            n->places = places;
            return 0;
        }
    }
    return refuse(n->c, "multipleOf", "must be a whole number from 1 to 250, or 0.1, 0.01 …");
}

static void put_all(struct numbers *n, uint32_t rule, const struct bound *low,
                    const struct bound *high)
{
    const struct bound none = {.given = false};
    struct bound zero = {.given = true, .fraction = "000000000000"};
    if (!high->given || !high->negative) {
        put_side(n, rule, "", low->given && !low->negative ? low : &zero, high);
    }
    if (!low->given || low->negative) {
        struct bound least = high->given && high->negative ? *high : none;
        const struct bound most = *low;
        if (!least.given) {
            least = zero;
            least.strict = true; /* zero has no sign */
        }
        put_side(n, rule, "-", &least, &most);
    }
}

/* So many places that two numbers of different digits are never the same double: what is below a
 * strict bound must not be rounded to it. */
static int exact_places(const struct bound *low, const struct bound *high)
{
    int64_t whole = low->whole > high->whole ? low->whole : high->whole;
    int places = DIGITS_MAX - 1;
    for (; whole >= 10; whole /= 10) {
        places--;
    }
    return places;
}

int number_rule(struct compiler *c, const json_t *schema, bool whole, uint32_t *rule)
{
    struct bound low = {.given = false};
    struct bound high = {.given = false};
    struct numbers *n = mem_alloc(sizeof *n);
    if (n == NULL) {
        return mem_err(c->err, sizeof *n);
    }
    memset(n, 0xff, sizeof *n); /* NONE everywhere */
    n->c = c;
    n->whole = whole;
    n->divisor = 1;
    n->places = PLACES_MAX;
    int rc = read_side(c, schema, "minimum", "exclusiveMinimum", 1, &low);
    if (rc == 0) {
        rc = read_side(c, schema, "maximum", "exclusiveMaximum", -1, &high);
    }
    if (rc == 0) {
        rc = read_format(c, schema, &low, &high);
    }
    if (rc == 0) {
        rc = read_multiple(n, schema);
    }
    if (rc == 0 && low.given && high.given &&
        (compare(&low, &high) > 0 || (compare(&low, &high) == 0 && (low.strict || high.strict)))) {
        rc = refuse(c, "minimum", "and 'maximum' leave nothing");
    }
    const bool plain = !low.given && !high.given && n->divisor == 1 && n->places == PLACES_MAX;
    if (rc == 0 && plain) {
        *rule = n->whole ? json_integer_rule(c, true) : json_number_rule(c, true);
    } else if (rc == 0) {
        const int places = exact_places(&low, &high);
        n->places = n->places < places ? n->places : places;
        *rule = rules_new(c->r);
        put_all(n, *rule, &low, &high);
    }
    mem_free(n);
    return rc;
}
