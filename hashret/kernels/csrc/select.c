/* The selection of core.h: room for kept rows, and their order at the end. */
#include "core.h"

int hr_selection_open(hr_selection *s, uint32_t n_bits, uint32_t below, size_t wanted) {
    memset(s, 0, sizeof *s);
    s->n_bits = n_bits;
    s->below = below;
    s->wanted = wanted;
    s->capacity = wanted == SIZE_MAX ? 64 : 2 * wanted + 64;
    s->keys = malloc(s->capacity * sizeof *s->keys);
    if (wanted != SIZE_MAX) s->counts = calloc((size_t)n_bits + 2, sizeof *s->counts);
    s->failed = s->keys == NULL || (wanted != SIZE_MAX && s->counts == NULL);
    return !s->failed;
}

void hr_selection_close(hr_selection *s) {
    free(s->keys);
    free(s->counts);
    s->keys = NULL;
    s->counts = NULL;
}

int hr_selection_room(hr_selection *s) {
    if (s->failed) return 0;
    if (s->counts != NULL) { /* forget what is too far by now; at most `wanted` rows stay */
        size_t kept = 0, ties = s->wanted - s->nearer;
        for (size_t i = 0; i < s->size; i++) {
            uint64_t key = s->keys[i]; /* no branches: which keys stay is anyone's guess */
            uint32_t distance = (uint32_t)(key >> HR_ROW_BITS);
            size_t tie = (size_t)(distance == s->below) & (ties > 0);
            s->keys[kept] = key;
            kept += (size_t)(distance < s->below) | tie;
            ties -= tie;
        }
        s->size = kept;
        return 1;
    }
    uint64_t *keys = s->capacity > SIZE_MAX / 32 ? NULL : realloc(s->keys, 2 * s->capacity * sizeof *keys);
    if (keys == NULL) {
        s->failed = 1;
        return 0;
    }
    s->keys = keys;
    s->capacity *= 2;
    return 1;
}

size_t hr_selection_sorted(hr_selection *s, uint64_t *out) {
    size_t start[HR_MAX_BITS + 1], total = 0;
    memset(start, 0, (s->n_bits + 1) * sizeof *start);
    for (size_t i = 0; i < s->size; i++) start[s->keys[i] >> HR_ROW_BITS]++;
    for (size_t d = 0; d <= s->n_bits; d++) {
        size_t here = start[d];
        start[d] = total;
        total += here;
    }
    if (total > s->wanted) total = s->wanted;
    for (size_t i = 0; i < s->size; i++) { /* rows of one distance were kept in ascending order and stay in it */
        size_t at = start[s->keys[i] >> HR_ROW_BITS]++;
        if (at < total) out[at] = s->keys[i];
    }
    return total;
}
