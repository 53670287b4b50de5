/* Loops. A loop's scope is made once and emptied for each item, as Python's function-local
 * variables are. `loop` looks one item ahead only when it is asked what comes next, so a generator
 * is drawn from no earlier than in Python. When an error passes the loop over the messages, the
 * message is named, once. */
#include <assert.h>

#include "text/jinja_eval.h"

static const struct symbols nothing_hidden;

/* The items of a loop that its test lets through, tested as they are taken. */
struct tested {
    struct jiter source;
    const struct loop_def *def;
    struct frame *frame; /* holds the target while the test looks at it */
};

static int pull_tested(struct jinja *j, struct jiter *it, struct jvalue *out, bool *done)
{
    struct tested *tested = it->data;
    for (;;) {
        struct jvalue item;
        struct jvalue holds;
        int rc = jiter_next(j, &tested->source, &item, done);
        if (rc != 0 || *done) {
            return rc;
        }
        rc = frame_again(j, tested->frame, &nothing_hidden);
        if (rc == 0) {
            rc = assign(j, tested->frame, tested->def->target, item);
        }
        if (rc == 0) {
            rc = eval(j, tested->frame, tested->def->test, &holds);
        }
        if (rc != 0) {
            return rc;
        }
        if (jv_truth(holds)) {
            *out = item;
            return 0;
        }
    }
}

/* Opens the loop's source, behind its test where it has one. */
static int loop_open(struct jinja *j, struct jloop *loop, struct jvalue over)
{
    loop->over = over;
    if (loop->def->test == NULL) {
        return jiter_open(j, over, &loop->it);
    }
    struct tested *tested = jinja_alloc(j, 1, sizeof *tested);
    if (tested == NULL) {
        return j->failed;
    }
    tested->def = loop->def;
    loop->it = (struct jiter){.pull = pull_tested, .data = tested};
    loop->over = jv_missing();
    int rc = frame_new(j, loop->outer, &nothing_hidden, &tested->frame);
    return rc == 0 ? jiter_open(j, over, &tested->source) : rc;
}

int loop_peek(struct jinja *j, struct jloop *loop, struct jvalue *out)
{
    bool done = false;
    int rc = 0;
    if (jv_is(loop->after, J_MISSING)) {
        rc = jiter_next(j, &loop->it, &loop->after, &done);
        if (done || rc != 0) {
            loop->after = jv_missing();
        }
    }
    *out = loop->after;
    return rc;
}

int loop_length(struct jinja *j, struct jloop *loop, int64_t *out)
{
    int rc = 0;
    if (loop->length < 0 && !jv_is(loop->over, J_MISSING) && jv_has_length(loop->over)) {
        rc = jv_length(j, loop->over, &loop->length);
    } else if (loop->length < 0) {
        struct jiter *rest = jinja_alloc(j, 1, sizeof *rest);
        struct jvalue list;
        if (rest == NULL) {
            return j->failed;
        }
        *rest = loop->it;
        rc = jv_collect(j, (struct jvalue){.type = J_ITERATOR, .as.iter = rest}, J_LIST, &list);
        if (rc == 0) {
            loop->length = list.as.list->n + loop->index0 + 1 + !jv_is(loop->after, J_MISSING);
            rc = jiter_open(j, list, &loop->it);
        }
    }
    *out = loop->length;
    return rc;
}

static int loop_next(struct jinja *j, struct jloop *loop, bool *done)
{
    struct jvalue item = loop->after;
    int rc = 0;
    *done = false;
    if (jv_is(item, J_MISSING)) {
        rc = jiter_next(j, &loop->it, &item, done);
    }
    if (rc != 0 || *done) {
        return rc;
    }
    loop->after = jv_missing();
    loop->previous = loop->current;
    loop->current = item;
    loop->index0++;
    return 0;
}

/* Names the message that an error passed by. */
static void blame(struct jinja *j, struct jvalue item)
{
    if (!j->blamed && item.type == J_DICT && item.as.dict->message >= 0) {
        j->blamed = true;
        err_prefix(j->err, "messages[%d]", (int)item.as.dict->message);
    }
}

/* Runs the loop's bodies; output goes where it goes. */
static int loop_run(struct jinja *j, struct jloop *loop)
{
    const struct loop_def *def = loop->def;
    struct frame *frame;
    struct jvalue self = {.type = J_LOOP, .as.loop = loop};
    enum flow flow = FLOW_ON;
    bool done = false;
    assert(def != NULL);
    int rc = frame_new(j, loop->outer, &nothing_hidden, &frame);
    while (rc == 0 && flow != FLOW_BREAK) {
        rc = loop_next(j, loop, &done);
        if (rc != 0 || done) {
            break;
        }
        rc = frame_again(j, frame, &def->hidden);
        if (rc == 0) {
            rc = frame_set(j, frame, def->loop_symbol, self);
        }
        if (rc == 0) {
            rc = assign(j, frame, def->target, loop->current);
        }
        if (rc == 0) {
            rc = exec_body(j, frame, &def->body, &flow);
        }
        if (rc != 0) {
            blame(j, loop->current);
        }
    }
    if (rc == 0 && loop->index0 < 0 && def->otherwise.n > 0) {
        rc = frame_new(j, loop->outer, &def->otherwise_hidden, &frame);
        if (rc == 0) {
            rc = exec_body(j, frame, &def->otherwise, &loop->flow);
        }
    }
    return rc;
}

static int loop_new(struct jinja *j, struct frame *outer, const struct loop_def *def,
                    int64_t depth0, struct jloop **out)
{
    *out = jinja_alloc(j, 1, sizeof **out);
    if (*out == NULL) {
        return j->failed;
    }
    (*out)->def = def;
    (*out)->outer = outer;
    (*out)->index0 = -1;
    (*out)->length = -1;
    (*out)->depth0 = depth0;
    return 0;
}

int exec_for(struct jinja *j, struct frame *frame, const struct node *node, enum flow *flow)
{
    struct jvalue over;
    struct jloop *loop;
    int rc = eval(j, frame, node->as.loop->iter, &over);
    if (rc == 0) {
        rc = loop_new(j, frame, node->as.loop, 0, &loop);
    }
    if (rc == 0) {
        rc = loop_open(j, loop, over);
    }
    if (rc == 0) {
        rc = loop_run(j, loop);
    }
    if (rc == 0) {
        *flow = loop->flow; /* a break in the else belongs to the loop around */
    }
    return rc;
}

int loop_recurse(struct jinja *j, const struct jloop *loop, struct jvalue over, struct jvalue *out)
{
    struct jloop *inner;
    if (!loop->def->recursive) {
        return jinja_fail(j, ERR_INVALID,
                          "The loop must have the 'recursive' marker to be called "
                          "recursively.");
    }
    int rc = call_enter(j);
    if (rc != 0) {
        return rc;
    }
    size_t mark = jtext_open(j);
    rc = loop_new(j, loop->outer, loop->def, loop->depth0 + 1, &inner);
    if (rc == 0) {
        rc = loop_open(j, inner, over);
    }
    if (rc == 0) {
        rc = loop_run(j, inner);
    }
    if (rc == 0) {
        rc = jtext_close(j, mark, out);
    }
    j->calls--;
    return rc;
}
