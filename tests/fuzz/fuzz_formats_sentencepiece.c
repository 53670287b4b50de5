/* tokenizer.model files: any bytes parse or are refused, and what parses points into the bytes. */
#include <stdlib.h>

#include "formats/sentencepiece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct sentencepiece model;
    unsigned sum = 0;

    if (sentencepiece_parse(&model, data, size, &err) != 0) {
        if (err.code == ERR_NONE || err.code == ERR_INTERNAL || model.pieces != NULL)
            abort();
        return 0;
    }
    for (size_t i = 0; i < model.n_pieces; i++) {
        const struct sentencepiece_piece *piece = &model.pieces[i];
        if (piece->n == 0 || (const uint8_t *)piece->text < data ||
            (const uint8_t *)piece->text + piece->n > data + size)
            abort();
        sum += (unsigned char)piece->text[piece->n - 1];
    }
    if (model.unk_id < 0 || (size_t)model.unk_id >= model.n_pieces || sum == 0)
        sum++;
    sentencepiece_release(&model);
    return 0;
}
