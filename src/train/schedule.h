/* The learning rate of every step.
 *
 * Steps count from 1. During warm-up the rate rises linearly, with the full rate at its last step;
 * no step has rate 0. With w warm-up steps and n steps in all, step s > w has
 *   constant  rate
 *   linear    rate · (n − (s − 1)) / (n − w)
 *   cosine    rate · (1 + cos(π · (s − 1 − w) / (n − w))) / 2
 * in double precision with our own cosine, so the same bits on every machine.
 */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stdint.h>

#include "formats/train_config.h"

double train_learning_rate(const struct train_config *config, const struct train_plan *plan,
                           int64_t step);

#endif
