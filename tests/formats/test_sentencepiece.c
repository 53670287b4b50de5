/* tokenizer.model files, sound and broken; what they encode is tests/engine's business. */
#include "formats/sentencepiece.h"

#include "test.h"

/* Sound parts to put files together from. */
#define UNK "\x0a\x0b\x0a\x05<unk>\x10\x00\x18\x02"
#define PIECE                                                                                      \
    "\x0a\x08\x0a\x01"                                                                             \
    "a\x15\x00\x00\x80\xbf"
#define BPE "\x12\x02\x18\x02"

static void test_real(void **state)
{
    struct err err = {0};
    struct sentencepiece model;
    struct buf bytes;

    (void)state;
    buf_init(&bytes, 1 << 20);
    assert_ok(fs_read_file("tests/fixtures/text/sentencepiece/llama.model", 1 << 20, &bytes, &err),
              &err);
    assert_ok(sentencepiece_parse(&model, bytes.data, bytes.len, &err), &err);
    assert_int_equal(model.n_pieces, 420);
    assert_true(model.byte_fallback && model.add_dummy_prefix && !model.remove_extra_whitespaces);
    assert_int_equal(model.unk_id, 0);
    assert_int_equal(model.bos_id, 1);
    assert_int_equal(model.eos_id, 2);
    assert_int_equal(model.pad_id, -1);
    assert_int_equal(model.pieces[1].type, SENTENCEPIECE_CONTROL);
    assert_memory_equal(model.pieces[1].text, "<s>", model.pieces[1].n);
    assert_int_equal(model.pieces[4].type, SENTENCEPIECE_USER_DEFINED);
    assert_int_equal(model.pieces[419].type, SENTENCEPIECE_NORMAL);
    sentencepiece_release(&model);
    /* every beginning of it is either sound or an error, never read beyond */
    for (size_t n = 0; n < bytes.len; n++) {
        char *part = mem_alloc(n + 1);
        assert_non_null(part);
        memcpy(part, bytes.data, n);
        err_clear(&err);
        if (sentencepiece_parse(&model, part, n, &err) == 0)
            sentencepiece_release(&model);
        else
            assert_true(err.code == ERR_CORRUPT || err.code == ERR_UNSUPPORTED);
        mem_free(part);
    }
    buf_release(&bytes);
}

static void test_rows(void **state)
{
#define ROW(bytes, code)                                                                           \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, code                                                             \
    }
    static const struct {
        const char *bytes;
        size_t n;
        enum err_code code;
    } rows[] = {
        ROW("", ERR_CORRUPT),
        ROW("\x0a", ERR_CORRUPT), /* no length */
        ROW("\x0a\x05"
            "ab",
            ERR_CORRUPT),                                                 /* longer than the file */
        ROW("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ERR_CORRUPT), /* 2^64 − 1 bytes */
        ROW("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ERR_CORRUPT), /* 70 bits */
        ROW("\x00\x00", ERR_CORRUPT),                                         /* field 0 */
        ROW("\x0b", ERR_CORRUPT),                                             /* a group */
        ROW("\x09\x01", ERR_CORRUPT),         /* 8 bytes of which one is there */
        ROW("\x08\x01", ERR_CORRUPT),         /* pieces as a number */
        ROW("\x0a\x00", ERR_CORRUPT),         /* a piece without a text */
        ROW("\x0a\x02\x08\x01", ERR_CORRUPT), /* a text that is a number */
        ROW("\x0a\x05\x0a\x01"
            "a\x10\x01",
            ERR_CORRUPT), /* a score that is no float */
        ROW("\x0a\x05\x0a\x01"
            "a\x18\x00",
            ERR_CORRUPT), /* types 0 and 7 */
        ROW("\x0a\x05\x0a\x01"
            "a\x18\x07",
            ERR_CORRUPT),
        ROW("\x0a\x04\x0a\x05"
            "a",
            ERR_CORRUPT),                     /* a text longer than its piece */
        ROW("\x12\x02\x18\x02", ERR_CORRUPT), /* no pieces */
        ROW(UNK BPE, ERR_CORRUPT),            /* a score that is a number */
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" BPE, ERR_NONE),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" PIECE BPE, ERR_NONE),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" PIECE BPE "\x22\x01\xff\x30\x07", ERR_NONE),
        ROW(PIECE BPE, ERR_CORRUPT), /* no unknown piece */
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x09\x0a\x05<unk>\x18\x02" BPE, ERR_CORRUPT),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02", ERR_UNSUPPORTED), /* unigram is the default */
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02\x12\x02\x18\x03", ERR_UNSUPPORTED),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02\x12\x02\x18\x63", ERR_UNSUPPORTED),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" BPE "\x1a\x03\x12\x01x", ERR_UNSUPPORTED), /* a map */
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" BPE "\x1a\x02\x28\x00", ERR_UNSUPPORTED),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" BPE "\x12\x03\xc0\x01\x01", ERR_UNSUPPORTED),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" BPE "\x10\x01", ERR_CORRUPT), /* specs as numbers */
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" BPE "\x18\x01", ERR_CORRUPT),
        ROW("\x0a\x09\x0a\x05<unk>\x18\x02" BPE "\x1a\x02\x1a\x00", ERR_CORRUPT),
    };
    size_t used = mem_used();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct sentencepiece model;
        int rc = sentencepiece_parse(&model, rows[i].bytes, rows[i].n, &err);
        if (rc != -(int)rows[i].code)
            fail_msg("row %zu: %d %s", i, rc, err.message);
        if (rc == 0)
            sentencepiece_release(&model);
        assert_int_equal(mem_used(), used);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_real), cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
