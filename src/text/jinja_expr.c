/* Parses expressions, level by level as jinja2's grammar has them:
 *
 *   condition  a if test else b          (right side nests)
 *   or, and    flat lists
 *   not        prefix
 *   compare    == != < <= > >= in not-in (chained as in Python)
 *   sum        + -
 *   concat     ~
 *   product    * / // %
 *   power      ** (left to right, unlike Python)
 *   unary      + - then postfix .name [item] (call), then |filter and `is test`
 *
 * Recursion is bounded twice: p->depth bounds the parser's own, and the height kept in each node
 * bounds that of everyone who walks the tree, since a.b.c.d is parsed in a loop but nests.
 */
#include <string.h>

#include "text/jinja_ast.h"
#include "text/jinja_eval.h"
#include "text/template.h"

enum level {
    LEVEL_OR,
    LEVEL_AND,
    LEVEL_NOT,
    LEVEL_COMPARE,
    LEVEL_SUM,
    LEVEL_CONCAT,
    LEVEL_PRODUCT,
    LEVEL_POWER,
    LEVEL_UNARY
};

static int parse_level(struct parser *p, enum level level, struct node **out);
static int parse_unary(struct parser *p, bool with_filter, struct node **out);

static int parse_condition(struct parser *p, struct node **out)
{
    int line = p->at->line;
    const struct node *unknown = p->unknown;
    struct node *then = NULL;
    int rc = parse_level(p, LEVEL_OR, &then);
    while (rc == 0 && parse_skip_name(p, "if")) {
        struct node *node;
        struct node *test = NULL;
        struct node *otherwise = NULL;
        rc = parse_level(p, LEVEL_OR, &test);
        if (rc == 0 && parse_skip_name(p, "else")) {
            rc = parse_expression(p, true, &otherwise);
        }
        if (rc == 0) {
            rc = parse_new(p, N_CONDITION, line, &node);
        }
        if (rc != 0) {
            return rc;
        }
        node->as.condition.test = test;
        node->as.condition.then = then;
        node->as.condition.otherwise = otherwise;
        rc = parse_adopt(p, node, test);
        if (rc == 0) {
            rc = parse_adopt(p, node, then);
        }
        if (rc == 0) {
            rc = parse_adopt(p, node, otherwise);
        }
        then = node;
        line = p->at->line;
        p->unknown = unknown;
    }
    *out = then;
    return rc;
}

int parse_expression(struct parser *p, bool with_condition, struct node **out)
{
    int rc = parse_enter(p);
    if (rc != 0) {
        return rc;
    }
    rc = with_condition ? parse_condition(p, out) : parse_level(p, LEVEL_OR, out);
    p->depth--;
    return rc;
}

/* Takes the operator of a chain level at p->at; false when there is none. */
static bool take_operator(struct parser *p, enum level level, uint8_t *op)
{
    enum token_kind kind = p->at->kind;
    bool taken = (level == LEVEL_SUM && (kind == T_ADD || kind == T_SUB)) ||
                 (level == LEVEL_PRODUCT &&
                  (kind == T_MUL || kind == T_DIV || kind == T_FLOORDIV || kind == T_MOD)) ||
                 (level == LEVEL_POWER && kind == T_POW);
    if (taken) {
        *op = (uint8_t)kind;
        p->at++;
        return true;
    }
    if (level != LEVEL_COMPARE) {
        return false;
    }
    if (kind >= T_EQ && kind <= T_LTEQ) {
        *op = (uint8_t)(OP_EQ + (kind - T_EQ));
        p->at++;
        return true;
    }
    if (parse_skip_name(p, "in")) {
        *op = OP_IN;
        return true;
    }
    if (token_is_name(p->at, "not") && token_is_name(p->at + 1, "in")) {
        p->at += 2;
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

/* first (op operand)*, kept flat. */
static int parse_chain(struct parser *p, enum level level, struct node **out)
{
    int line = p->at->line;
    int rc = parse_level(p, level + 1, out);
    struct node *node = NULL;
    uint32_t cap = 0;
    uint8_t op;
    while (rc == 0 && take_operator(p, level, &op)) {
        struct node *operand = NULL;
        if (node == NULL) {
            rc = parse_new(p, level == LEVEL_COMPARE ? N_COMPARE : N_ARITHMETIC, line, &node);
            if (rc == 0) {
                node->as.chain.first = *out;
                rc = parse_adopt(p, node, *out);
            }
        }
        if (rc == 0) {
            rc = parse_level(p, level + 1, &operand);
        }
        if (rc == 0 && node->as.chain.rest.n == cap) {
            uint8_t *ops = parse_alloc(p, cap == 0 ? 4 : 2 * cap, 1);
            if (ops == NULL) {
                return p->failed;
            }
            if (cap > 0) {
                memcpy(ops, node->as.chain.ops, cap);
            }
            node->as.chain.ops = ops;
            cap = cap == 0 ? 4 : 2 * cap;
        }
        if (rc == 0) {
            node->as.chain.ops[node->as.chain.rest.n] = op;
            rc = nodes_add(p, &node->as.chain.rest, operand);
        }
        if (rc == 0) {
            rc = parse_adopt(p, node, operand);
        }
        *out = node;
    }
    return rc;
}

static bool take_joint(struct parser *p, enum level level)
{
    return level == LEVEL_OR    ? parse_skip_name(p, "or")
           : level == LEVEL_AND ? parse_skip_name(p, "and")
                                : parse_skip(p, T_TILDE);
}

/* part (joint part)*, kept as a list. */
static int parse_joined(struct parser *p, enum level level, struct node **out)
{
    int line = p->at->line;
    enum node_kind kind = level == LEVEL_OR ? N_OR : level == LEVEL_AND ? N_AND : N_CONCAT;
    int rc = parse_level(p, level + 1, out);
    struct node *node = NULL;
    while (rc == 0 && take_joint(p, level)) {
        struct node *part = NULL;
        if (node == NULL) {
            rc = parse_new(p, kind, line, &node);
            if (rc == 0) {
                rc = nodes_add(p, &node->as.items, *out);
            }
            if (rc == 0) {
                rc = parse_adopt(p, node, *out);
            }
        }
        if (rc == 0) {
            rc = parse_level(p, level + 1, &part);
        }
        if (rc == 0) {
            rc = nodes_add(p, &node->as.items, part);
        }
        if (rc == 0) {
            rc = parse_adopt(p, node, part);
        }
        *out = node;
    }
    return rc;
}

static int parse_not(struct parser *p, struct node **out)
{
    int line = p->at->line;
    if (!parse_skip_name(p, "not")) {
        return parse_level(p, LEVEL_COMPARE, out);
    }
    struct node *operand = NULL;
    int rc = parse_enter(p);
    if (rc != 0) {
        return rc;
    }
    rc = parse_not(p, &operand);
    p->depth--;
    if (rc == 0) {
        rc = parse_new(p, N_NOT, line, out);
    }
    if (rc == 0) {
        (*out)->as.operand = operand;
        rc = parse_adopt(p, *out, operand);
    }
    return rc;
}

static int parse_level(struct parser *p, enum level level, struct node **out)
{
    switch (level) {
    case LEVEL_OR:
    case LEVEL_AND:
    case LEVEL_CONCAT:
        return parse_joined(p, level, out);
    case LEVEL_NOT:
        return parse_not(p, out);
    case LEVEL_COMPARE:
    case LEVEL_SUM:
    case LEVEL_PRODUCT:
    case LEVEL_POWER:
        return parse_chain(p, level, out);
    case LEVEL_UNARY:
        break;
    }
    return parse_unary(p, true, out);
}

static int parse_unary(struct parser *p, bool with_filter, struct node **out)
{
    int line = p->at->line;
    enum token_kind kind = p->at->kind;
    int rc;
    if (kind == T_SUB || kind == T_ADD) {
        struct node *operand = NULL;
        p->at++;
        rc = parse_enter(p);
        if (rc != 0) {
            return rc;
        }
        rc = parse_unary(p, false, &operand);
        p->depth--;
        if (rc == 0) {
            rc = parse_new(p, kind == T_SUB ? N_NEGATE : N_PLUS, line, out);
        }
        if (rc == 0) {
            (*out)->as.operand = operand;
            rc = parse_adopt(p, *out, operand);
        }
    } else {
        rc = parse_primary(p, false, out);
    }
    if (rc == 0) {
        rc = parse_postfix(p, out);
    }
    while (rc == 0 && with_filter) {
        if (parse_skip(p, T_PIPE)) {
            rc = parse_filter(p, out);
        } else if (parse_skip_name(p, "is")) {
            rc = parse_test(p, out);
        } else if (p->at->kind == T_LPAREN) {
            rc = parse_call(p, out);
        } else {
            break;
        }
    }
    return rc;
}
