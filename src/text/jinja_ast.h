/* From source to tree: tokens, nodes, and what the compiler's files share.
 *
 * Everything lives in the template's arena and is immutable once template_new returns. Chains
 * that Python writes without nesting (a + b + c, a ~ b, a and b, elif) are flat here too, so that
 * their length costs no recursion.
 */
#ifndef TEXT_JINJA_AST_H
#define TEXT_JINJA_AST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/jinja_value.h"

/* --- tokens -------------------------------------------------------------------------------- */
enum token_kind {
    T_EOF,
    T_DATA,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INTEGER,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_DIV,
    T_FLOORDIV,
    T_MUL,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GTEQ,
    T_LT,
    T_LTEQ,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON
};

struct token {
    enum token_kind kind;
    int line;
    uint32_t len;
    const char *text; /* name (NUL-terminated), string after unescaping, data */
    union {
        int64_t integer;
        double real;
    } number;
};

struct tokens {
    struct token *at;
    size_t n, cap;
};

/* Cuts source into tokens, the last one T_EOF. The source is valid UTF-8; text of tokens lies in
 * the arena. */
int jinja_lex(struct arena *arena, const char *source, size_t length, struct tokens *out,
              struct err *err) MUST_CHECK;
/* How a token is called in a message. */
const char *token_name(const struct token *token);

/* --- nodes --------------------------------------------------------------------------------- */
enum node_kind {
    /* expressions */
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT,
    N_ATTRIBUTE,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_NOT,
    N_NEGATE,
    N_PLUS,
    N_ARITHMETIC,
    N_CONCAT,
    N_COMPARE,
    N_AND,
    N_OR,
    N_CONDITION,
    N_NAMESPACE_REF, /* target of an assignment only */
    /* statements */
    N_OUTPUT,
    N_IF,
    N_FOR,
    N_SET,
    N_SET_BLOCK,
    N_MACRO,
    N_CALL_BLOCK,
    N_FILTER_BLOCK,
    N_WITH,
    N_GENERATION,
    N_BREAK,
    N_CONTINUE
};

enum jinja_op { OP_EQ, OP_NE, OP_GT, OP_GE, OP_LT, OP_LE, OP_IN, OP_NOT_IN };

struct node;

struct nodes {
    struct node **at;
    uint32_t n, cap;
};

struct keyword {
    const char *name;
    struct node *value;
};

struct call_args {
    struct nodes positional;
    struct keyword *keywords;
    uint32_t n_keywords;
    struct node *star, *star_star; /* NULL when absent */
};

/* Names that enter a scope as missing, whatever outer scopes hold (see jinja_scope.c). */
struct symbols {
    uint32_t *at;
    uint32_t n, cap;
};

/* Macro, call block: parameters and what the body asks for besides. */
struct macro_def {
    const char *name; /* NULL for a call block */
    uint32_t symbol;
    struct nodes params;   /* N_NAME */
    struct nodes defaults; /* of the last params */
    struct nodes body;
    struct symbols hidden;
    bool wants_caller, wants_kwargs, wants_varargs;
    uint32_t caller_symbol, kwargs_symbol, varargs_symbol;
};

struct loop_def {
    struct node *target, *iter, *test; /* test may be NULL */
    struct nodes body, otherwise;
    struct symbols hidden, otherwise_hidden;
    uint32_t loop_symbol; /* of the name "loop" */
    bool recursive;
};

struct node {
    enum node_kind kind;
    int line;
    uint32_t height; /* of an expression: 1 + the highest of its parts, ≤ TEMPLATE_DEPTH_MAX */
    union {
        struct jvalue constant; /* N_CONST */
        struct {                /* N_NAME, N_NAMESPACE_REF */
            const char *text;
            uint32_t symbol;
            const char *attribute;
        } name;
        struct nodes items; /* N_LIST N_TUPLE N_CONCAT N_AND N_OR N_OUTPUT */
        struct {            /* N_DICT */
            struct nodes keys, values;
        } dict;
        struct { /* N_ATTRIBUTE */
            struct node *object;
            const char *name;
        } attribute;
        struct { /* N_ITEM */
            struct node *object, *key;
        } item;
        struct { /* N_SLICE: parts may be NULL */
            struct node *object, *start, *stop, *step;
        } slice;
        struct { /* N_CALL; object is NULL for the filter of a filter block */
            struct node *object;
            struct call_args args;
        } call;
        struct { /* N_FILTER, N_TEST: which is NULL when the name is unknown */
            struct node *object;
            struct call_args args;
            const char *name;
            const void *which;
        } apply;
        struct node *operand; /* N_NOT N_NEGATE N_PLUS */
        struct {              /* N_ARITHMETIC, N_COMPARE: first op[0] rest[0] op[1] … */
            struct node *first;
            struct nodes rest;
            uint8_t *ops; /* token_kind for arithmetic, jinja_op for comparisons */
        } chain;
        struct { /* N_CONDITION: otherwise may be NULL */
            struct node *test, *then, *otherwise;
        } condition;
        struct { /* N_IF: tests[i] guards bodies[i]; one body more than tests is the else */
            struct nodes tests;
            struct nodes *bodies;
            uint32_t n_bodies;
        } branch;
        struct loop_def *loop;
        struct { /* N_SET */
            struct node *target, *value;
        } set;
        struct { /* N_SET_BLOCK, N_FILTER_BLOCK, N_GENERATION, N_WITH */
            struct node *target, *filter;
            struct nodes targets, values, body;
            struct symbols hidden;
        } block;
        struct macro_def *macro; /* N_MACRO */
        struct {                 /* N_CALL_BLOCK */
            struct macro_def *body;
            struct node *call;
        } call_block;
    } as;
};

/* --- the compiler -------------------------------------------------------------------------- */
struct parser {
    struct arena *arena;
    struct err *err;
    int failed;
    const struct token *at;
    struct symbol_table *names;
    unsigned depth;
    unsigned loops;             /* loops around, up to the nearest macro */
    unsigned loops_anywhere;    /* loops around */
    bool soft;                  /* inside an if: unknown filters fail when run, not now */
    const struct node *unknown; /* first unknown filter or test that will be run */
    struct enclosing *macros;   /* macros around, innermost first */
};

struct symbol_table {
    const char **text;
    uint32_t n, cap;
    uint32_t *slots;
    uint32_t n_slots;
};

/* Number of a name, the same for the same text; UINT32_MAX when out of memory. */
uint32_t symbol_of(struct parser *p, const char *text);

/* Sets "template line N: …" and returns the negative code. */
int parse_fail(struct parser *p, enum err_code code, int line, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Zeroed memory of the template; NULL with the error set and its code in p->failed. */
void *parse_alloc(struct parser *p, size_t n, size_t size);
#ifdef __clang_analyzer__
#define parse_fail(p, ...)      err_sticky((p), (parse_fail)((p), __VA_ARGS__))
#define parse_alloc(p, n, size) err_sticky_alloc((p), (parse_alloc)((p), (n), (size)))
#endif
int parse_enter(struct parser *p) MUST_CHECK;
int parse_new(struct parser *p, enum node_kind kind, int line, struct node **out) MUST_CHECK;
int nodes_add(struct parser *p, struct nodes *nodes, struct node *node) MUST_CHECK;
bool token_is_name(const struct token *token, const char *name);
bool parse_skip_name(struct parser *p, const char *name);
bool parse_skip(struct parser *p, enum token_kind kind);
int parse_expect(struct parser *p, enum token_kind kind) MUST_CHECK;

/* Records that an expression has `child` (may be NULL) below it; fails when it is too high. */
int parse_adopt(struct parser *p, struct node *node, const struct node *child) MUST_CHECK;
int parse_adopt_all(struct parser *p, struct node *node, const struct nodes *children) MUST_CHECK;

/* Names, literals, brackets (jinja_primary.c). */
int parse_primary(struct parser *p, bool with_namespace, struct node **out) MUST_CHECK;

/* What follows an operand (jinja_postfix.c); *node is replaced by what it becomes. */
int parse_postfix(struct parser *p, struct node **node) MUST_CHECK; /* .name [item] (call) … */
int parse_call(struct parser *p, struct node **node) MUST_CHECK;
int parse_filter(struct parser *p, struct node **node) MUST_CHECK; /* p->at behind the bar */
int parse_test(struct parser *p, struct node **node) MUST_CHECK;   /* p->at behind `is` */

/* Expressions (jinja_expr.c). Each leaves p->at behind what it read. */
int parse_expression(struct parser *p, bool with_condition, struct node **out) MUST_CHECK;
/* One expression or a tuple without brackets. */
int parse_tuple(struct parser *p, bool with_condition, struct node **out) MUST_CHECK;
int parse_target(struct parser *p, bool with_namespace, struct node **out) MUST_CHECK;
/* Filters of a block: name(args)|name… over nothing. */
int parse_block_filter(struct parser *p, bool inline_first, struct node **out) MUST_CHECK;

/* Statements (jinja_parser.c): the whole template. */
int parse_template(struct parser *p, struct nodes *out) MUST_CHECK;

/* Fills in the `hidden` symbols of every scope; `root` gets those of the template's top level. */
int scope_analyze(struct parser *p, struct nodes *body, struct symbols *root) MUST_CHECK;

struct enclosing {
    struct macro_def *macro;
    struct enclosing *outer;
};

#endif
