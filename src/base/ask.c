/* The child ends when the hub's end of the socket closes, even in the middle of an answer: a hub
 * that is gone wants none. */
#include "base/ask.h"

#include "base/frame.h"
#include "base/log.h"
#include "base/proc.h"

/* --- in the child ------------------------------------------------------------------------------
 */

static int answer_one(const struct ask_kind *kind, struct frame_conn *conn,
                      const struct buf *question, ask_answer_fn answer, struct err *err)
{
    struct buf buf;
    struct json_out out;
    struct err fault = {0};
    json_t *tree = json_parse(question->data, question->len, &fault);
    int rc = tree != NULL ? 0 : -(int)fault.code;
    buf_init(&buf, kind->answer_bytes_max);
    json_out_init(&out, &buf);
    rc = rc == 0 ? answer(tree, &out, &fault) : rc;
    rc = rc == 0 ? buf_check(&buf, "the answer", &fault) : rc;
    if (rc != 0) {
        buf_release(&buf);
        buf_init(&buf, kind->answer_bytes_max);
        json_out_init(&out, &buf);
        json_out_object(&out);
        json_out_kv_int(&out, "code", fault.code);
        json_out_kv_string(&out, "message", fault.message);
        json_out_object_end(&out);
    }
    const int sent =
        frame_send(conn, rc == 0 ? 'a' : 'x', buf.data, buf.len, kind->timeout_ms, err);
    buf_release(&buf);
    json_decref(tree);
    return sent;
}

int ask_answer_main(const struct ask_kind *kind, int control_fd, ask_answer_fn answer)
{
    struct err err = {0};
    struct frame_conn conn;
    struct buf question;
    uint8_t type;
    int rc = proc_child_init(control_fd, &err);
    rc = rc == 0 ? proc_child_limit(0, kind->cpu_seconds, &err) : rc;
    rc = rc == 0 ? proc_child_watch(control_fd, &err) : rc;
    rc = rc == 0 ? frame_conn_init(&conn, control_fd, &err) : rc;
    if (rc != 0) {
        log_event(LOG_ERROR, "base", "ask_start", "error=\"%s\"", err.message);
        return 1;
    }
    buf_init(&question, ASK_QUESTION_BYTES_MAX);
    rc = frame_recv(&conn, &type, &question, kind->timeout_ms, &err);
    rc = rc == 0 ? answer_one(kind, &conn, &question, answer, &err) : rc;
    buf_release(&question);
    frame_conn_release(&conn);
    return rc == 0 ? 0 : 1;
}

/* --- in the hub --------------------------------------------------------------------------------
 */

static int take_answer(const struct ask_kind *kind, struct frame_conn *conn, struct buf *out,
                       struct err *err)
{
    uint8_t type = 0;
    struct err why = {0};
    if (frame_recv(conn, &type, out, kind->timeout_ms, &why) != 0) {
        return err_set(err, ERR_CORRUPT, "%s", kind->broken);
    }
    if (type == 'a') {
        return 0;
    }
    json_t *tree = json_parse(out->data, out->len, &why);
    const int64_t code = json_integer_value(json_object_get(tree, "code"));
    const char *message = json_string_value(json_object_get(tree, "message"));
    const int rc =
        err_set(err, code > 0 && code < ERR_CODE_COUNT ? (enum err_code)code : ERR_CORRUPT, "%s",
                message != NULL ? message : "the files cannot be read");
    json_decref(tree);
    return rc;
}

int ask_child(const struct ask_kind *kind, const char *program, const struct buf *question,
              struct buf *answer, struct err *err)
{
    const char *argv[] = {"mlx-hub", kind->command, NULL};
    const struct proc_options options = {.path = program, .argv = argv};
    struct proc proc = {0};
    struct frame_conn conn;
    int rc = buf_check(question, "the request", err);
    rc = rc == 0 ? proc_spawn(&proc, &options, err) : rc;
    if (rc != 0) {
        return rc;
    }
    rc = frame_conn_init(&conn, proc.control, err);
    if (rc == 0) {
        rc = frame_send(&conn, 'Q', question->data, question->len, kind->timeout_ms, err);
        rc = rc == 0 ? take_answer(kind, &conn, answer, err) : rc;
        frame_conn_release(&conn);
    }
    proc_release(&proc);
    return rc;
}
