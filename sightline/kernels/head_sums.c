/* Sums over a corpus of each head's weights, in one pass: what head_roles/definition.py defines, for float32 on the
   CPU, several times faster than PyTorch's passes over each tensor of weights. `head_sums.py` calls it.

   A head of a document is computed in strips of whole words, a document of ordinary length in one. GROUP queries at a
   time get their scores; then each row is read once: exponential, entropy, largest weight, and the sums by key and by
   distance, which lie in the nearest memory. When all rows of a strip are weights, the weights of its words follow, one
   word after another, and their answers. Sums over a row or a strip are float32 in many lanes, all others float64. One
   thread adds everything of a head, in one order, so that any number of threads gives the same bits. */

#include "lanes.c"

enum { AWAY = 10, OFFSETS = 2 * AWAY + 1 }; /* WIDE in totals.py */
enum { SPARE = (AWAY + LANES - 1) / LANES * LANES };

/* A call of attention, its documents, and the sums. Fields and order are those of `Call` in head_sums.py. Pieces and
   words count from 0 inside their document; `.._from` are the bounds of a list for each document, word or question. */
typedef struct {
    const float *q, *k, *lse;
    const int64_t *groups, *offsets;                      /* [heads], [S + 1]: rows */
    const uint8_t *is_query;                                  /* [rows]: not special */
    const int32_t *before;                                /* [rows]: the last earlier piece of the same id, or -1 */
    const int64_t *marks_from; const int32_t *marks;      /* [S + 1], [., 2]: kind (index of MASSES), piece */
    const int64_t *words_from; const int32_t *first_piece; /* [S + 1], [words]: first listed piece; n if none */
    const int64_t *more_from; const int32_t *more;        /* [S + 1], [., 2]: word, piece, of other pieces */
    const int64_t *pieces_from; const int32_t *pieces;    /* [words + 1], [.] */
    const int32_t *rarest;                                /* [S]: word, or -1 */
    const int64_t *strips_from; const int32_t *strips;    /* [S + 1], [., 4]: bounds of pieces, bounds of words */
    const int64_t *questions_from, *questions;            /* [words + 1], [., 2]: row of the answers, whether limited */
    const int64_t *candidates_from; const int32_t *candidates; /* [questions + 1], [., 2]: word, whether it is right */
    const int32_t *bins;                                  /* [longest]: the bin of each distance */
    uint8_t *answers;
    double *offset_weight, *word_offset_weight, *distances;
    int64_t *offset_best, *word_offset_best, *sink;
    double *masses[4], *entropy, *confidence, *duplicate, *induction, *rare;
    int64_t documents, width, left, right, answers_row, edges, strip_size, strip_rows, longest, most_words;
    int64_t q_row, q_head, q_one, k_row, k_head, k_one, lse_row, lse_head;
    double scale, sink_weight;
} Call;

/* Memory of one thread. */
typedef struct {
    float *queries;            /* [width, GROUP], scaled */
    float *keys;               /* [longest / PANEL, width, PANEL] */
    float *weights;            /* those of a strip */
    float *by_key, *by_distance;
    float *mean, *words;       /* of a word, by piece and by word; the latter with SPARE zeros on both sides */
} Scratch;

typedef struct {
    const Call *call;
    Scratch *scratch;
    int64_t document, head, row, n, panels, pitch; /* panels hold n keys; at least one 0 follows in a row */
} Item;

/* The largest, and the first place where it is; -1 where nothing is larger than 0. */
typedef struct {
    float weight;
    int64_t place;
} Largest;

/* No weight is below 0, so their bits are in the order of the weights. */
static inline Largest largest_of(lanes largest, whole place) {
    int32_t weights[LANES], places[LANES], most_bits = 0, first = INT32_MAX;
    memcpy(weights, &largest, sizeof largest), memcpy(places, &place, sizeof place);
    for (int i = 0; i < LANES; i++) most_bits = weights[i] > most_bits ? weights[i] : most_bits;
    for (int i = 0; i < LANES; i++) {
        int32_t here = weights[i] == most_bits ? places[i] + i : INT32_MAX;
        first = here < first ? here : first;
    }
    Largest best = {0, most_bits > 0 ? first : -1};
    memcpy(&best.weight, &most_bits, sizeof best.weight);
    return best;
}

static inline void larger_at(lanes x, int32_t j, lanes *largest, whole *place) {
    whole fresh = x > *largest;
    *largest = (lanes)((fresh & (whole)x) | (~fresh & (whole)*largest));
    *place = (fresh & ((whole){0} + j)) | (~fresh & *place);
}

/* --- by piece
   ----------------------------------------------------------------------------------------------------------- */

/* Turns a row of logarithms into weights, and adds all sums by piece. `by_distance` begins at key 0. */
static void weigh(const Item *item, int64_t i, float *restrict row, float *restrict by_key,
                  float *restrict by_distance) {
    const Call *c = item->call;
    int64_t h = item->head, from = most(0, i - c->left), to = least(item->n, i + c->right + 1);
    for (int64_t j = 0; j < from; j++) row[j] = HIDDEN;
    for (int64_t j = to; j < item->pitch; j++) row[j] = HIDDEN;
    lanes entropy = {0}, largest = {0};
    whole place = {0};
    for (int64_t j = 0; j < item->pitch; j += LANES) {
        lanes x = *(const lanes *)(row + j), w = exponential(x);
        *(lanes *)(row + j) = w;
        *(lanes *)(by_key + j) += w;
        *(loose *)(by_distance + j) += w;
        entropy -= w * x;
        larger_at(w, (int32_t)j, &largest, &place);
    }
    Largest best = largest_of(largest, place);
    int64_t away = best.place - i;
    c->entropy[h] += total(entropy), c->confidence[h] += best.weight;
    if (best.place >= 0 && llabs(away) <= AWAY) c->offset_best[h * OFFSETS + AWAY + away]++;
    c->sink[h] += row[0] > (float)c->sink_weight;
    for (int64_t j = c->before[item->row + i]; j >= 0; j = c->before[item->row + j]) {
        c->duplicate[h] += row[j];
        if (j + 1 < i) c->induction[h] += row[j + 1];
    }
}

/* Adds the sums by key and by distance of a strip of queries to those of the head. */
static void add_strip(const Item *item, int64_t start, int64_t rows) {
    const Call *c = item->call;
    int64_t h = item->head;
    const float *by_distance = item->scratch->by_distance;
    for (int64_t i = 0; i < item->n + rows - 1; i++) {
        int64_t away = i - (rows - 1) - start;
        if (llabs(away) >= item->n) continue;
        if (llabs(away) <= AWAY) c->offset_weight[h * OFFSETS + AWAY + away] += by_distance[i];
        c->distances[h * c->edges + c->bins[llabs(away)]] += by_distance[i];
    }
    for (int64_t m = c->marks_from[item->document]; m < c->marks_from[item->document + 1]; m++)
        c->masses[c->marks[2 * m]][h] += item->scratch->by_key[c->marks[2 * m + 1]];
}

/* --- by word
   ------------------------------------------------------------------------------------------------------------ */

/* The weights of a word by piece, averaged over its own pieces. */
static const float *averaged(const Item *item, int64_t start, const int32_t *pieces, int64_t count) {
    const float *weights = item->scratch->weights;
    if (count == 1) return weights + (pieces[0] - start) * item->pitch;
    float *mean = item->scratch->mean, share = 1 / (float)count;
    memset(mean, 0, item->pitch * sizeof(float));
    for (int64_t p = 0; p < count; p++) {
        const float *row = weights + (pieces[p] - start) * item->pitch;
        for (int64_t j = 0; j < item->pitch; j += LANES) *(lanes *)(mean + j) += *(const lanes *)(row + j) * share;
    }
    return mean;
}

/* Notes which questions of a word the head answers: `best` is the word with the largest weight. */
static void answer(const Item *item, int64_t word, int64_t best, const float *words) {
    const Call *c = item->call;
    for (int64_t q = c->questions_from[word]; q < c->questions_from[word + 1]; q++) {
        const int32_t *key = c->candidates + 2 * c->candidates_from[q];
        const int32_t *past = c->candidates + 2 * c->candidates_from[q + 1];
        float largest = 0;
        int right = 0;
        for (; key < past; key += 2) {
            if (!c->questions[2 * q + 1])
                right |= key[0] == best;
            else if (words[key[0]] > largest)
                largest = words[key[0]], right = key[1];
        }
        if (right) c->answers[c->questions[2 * q] * c->answers_row + item->head] = 1;
    }
}

/* Adds all sums by word of a strip, and its answers. */
static void by_word(const Item *item, int64_t start, int64_t first, int64_t past) {
    const Call *c = item->call;
    int64_t h = item->head, base = c->words_from[item->document], rarest = c->rarest[item->document];
    int64_t count = c->words_from[item->document + 1] - base;
    const int32_t *restrict piece = c->first_piece + base;
    float *restrict words = item->scratch->words + SPARE;
    float offsets[SPARE * 2 + LANES] = {0};
    memset(words + count, 0, (SPARE + LANES) * sizeof(float));
    for (int64_t word = first; word < past; word++) {
        int64_t from = c->pieces_from[base + word], pieces = c->pieces_from[base + word + 1] - from;
        if (!pieces) continue;
        const float *restrict mean = averaged(item, start, c->pieces + from, pieces);
        for (int64_t w = 0; w < count; w++) words[w] = mean[piece[w]];
        for (int64_t m = c->more_from[item->document]; m < c->more_from[item->document + 1]; m++)
            words[c->more[2 * m]] += mean[c->more[2 * m + 1]];
        lanes largest = {0};
        whole place = {0};
        for (int64_t w = 0; w < count; w += LANES)
            larger_at(*(const loose *)(words + w), (int32_t)w, &largest, &place);
        Largest best = largest_of(largest, place);
        int64_t away = best.place - word;
        if (best.place >= 0 && llabs(away) <= AWAY) c->word_offset_best[h * OFFSETS + AWAY + away]++;
        for (int64_t o = 0; o < OFFSETS; o += LANES)
            *(loose *)(offsets + o) += *(const loose *)(words + word - AWAY + o);
        if (rarest >= 0 && rarest != word) c->rare[h] += words[rarest];
        answer(item, base + word, best.place, words);
    }
    for (int64_t o = 0; o < OFFSETS; o++) c->word_offset_weight[h * OFFSETS + o] += offsets[o];
}

/* --- a head of a document
   ------------------------------------------------------------------------------------------------ */

static void strip(const Item *item, int64_t start, int64_t stop) {
    const Call *c = item->call;
    Scratch *scratch = item->scratch;
    int64_t rows = stop - start;
    memset(scratch->by_key, 0, item->pitch * sizeof(float));
    memset(scratch->by_distance, 0, (item->pitch + rows) * sizeof(float));
    for (int64_t i = start; i < stop; i += GROUP) {
        float level[GROUP] = {0}, *weights = scratch->weights + (i - start) * item->pitch;
        int64_t real = least(GROUP, stop - i);
        const float *lse = c->lse + (item->row + i) * c->lse_row + item->head * c->lse_head;
        for (int64_t r = 0; r < real; r++) level[r] = lse[r * c->lse_row];
        const float *q = c->q + (item->row + i) * c->q_row + item->head * c->q_head;
        lay_out(q, c->q_row, c->q_one, real, c->width, GROUP, (float)c->scale, scratch->queries);
        for (int64_t p = 0; p < item->panels; p++)
            product(scratch->queries, scratch->keys + p * c->width * PANEL, c->width, level, weights + p * PANEL,
                    item->pitch);
        for (int64_t r = 0; r < real; r++) {
            float *row = weights + r * item->pitch;
            if (c->is_query[item->row + i + r] && level[r] != -INFINITY)
                weigh(item, i + r, row, scratch->by_key, scratch->by_distance + (stop - 1 - i - r));
            else
                memset(row, 0, item->pitch * sizeof(float));
        }
    }
    add_strip(item, start, rows);
}

/* Adds to the sums and answers of heads `from` to `to`. Returns 0, or 1 where there is no memory. */
int sightline_head_sums(const Call *c, int64_t from, int64_t to) {
    int64_t widest = (c->longest / PANEL + 1) * PANEL;
    int64_t sizes[] = {c->width * GROUP, widest * c->width, c->strip_size, widest, widest + c->strip_rows, widest,
                       c->most_words + 2 * SPARE + LANES};
    float *all[7];
    int failed = 0;
    for (int i = 0; i < 7; i++) failed |= !(all[i] = aligned(sizes[i] * sizeof(float)));
    Scratch scratch = {all[0], all[1], all[2], all[3], all[4], all[5], all[6]};
    if (!failed) memset(scratch.words, 0, SPARE * sizeof(float));
    for (int64_t h = from; h < to && !failed; h++) {
        for (int64_t d = 0; d < c->documents; d++) {
            Item item = {.call = c, .scratch = &scratch, .document = d, .head = h, .row = c->offsets[d]};
            item.n = c->offsets[d + 1] - item.row;
            item.panels = (item.n + PANEL - 1) / PANEL, item.pitch = (item.n / PANEL + 1) * PANEL;
            const float *k = c->k + item.row * c->k_row + c->groups[h] * c->k_head;
            lay_out(k, c->k_row, c->k_one, item.n, c->width, PANEL, 1, scratch.keys);
            for (int64_t s = c->strips_from[d]; s < c->strips_from[d + 1]; s++) {
                const int32_t *bounds = c->strips + 4 * s;
                strip(&item, bounds[0], bounds[1]);
                by_word(&item, bounds[0], bounds[2], bounds[3]);
            }
        }
    }
    for (int i = 0; i < 7; i++) free(all[i]);
    return failed;
}
