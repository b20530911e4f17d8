/* What heads do, read off their weights in one pass: what `looking.py` defines, for float32 on the CPU, several times faster than
   PyTorch's passes over each tensor of weights. `reading.py` lays everything out, compiles this and calls it.

   A head of a document is worked through in strips of whole words, a document of ordinary length in one. GROUP queries at a
   time get their scores; then each row of these is gone through once: exponential, entropy, largest weight, and the sums by
   key and by distance, which lie in the nearest memory. When all rows of a strip are weights, its words are made of them, one
   by one, and answer. Sums over a row or a strip run in float32 in many lanes, all others in float64. Of a head everything is
   added by one thread, in one order, so that any number of threads gives the same bits. */

#include "lanes.c"

enum { AWAY = 10, OFFSETS = 2 * AWAY + 1 }; /* WIDE in sums.py */
enum { SPARE = (AWAY + LANES - 1) / LANES * LANES };

/* A call of attention, what its documents are, and where everything is added. Fields and their order are those of `Given` in
   reading.py. Pieces and words count from 0 inside their document; lists of one are found by `.._from`. */
typedef struct {
    const float *q, *k, *lse;
    const int64_t *groups, *offsets;              /* [heads], [S + 1]: rows */
    const uint8_t *asks;                          /* [rows]: not special */
    const int32_t *before;                        /* [rows]: the last earlier piece of the same id, or -1 */
    const int64_t *marks_from; const int32_t *marks;     /* [S + 1], [., 2]: kind (of MASSES), piece */
    const int64_t *words_from; const int32_t *head_piece; /* [S + 1], [words]: the first listed piece of a word; n if none */
    const int64_t *more_from; const int32_t *more;       /* [S + 1], [., 2]: word, piece, of those that are not the first */
    const int64_t *pieces_from; const int32_t *pieces;   /* [words + 1], [.] */
    const int32_t *rare;                                 /* [S]: word, or -1 */
    const int64_t *strips_from; const int32_t *strips;   /* [S + 1], [., 4]: pieces from and past, words from and past */
    const int64_t *asked_from; const int64_t *asked;     /* [words + 1], [., 2]: row of the answers, whether few may be it */
    const int64_t *keys_from; const int32_t *keys;       /* [questions + 1], [., 2]: word, whether it is right */
    const int32_t *bins;                                 /* [longest]: which of EDGES a distance is counted with */
    uint8_t *answers;
    double *offset_weight, *word_offset_weight, *distances;
    int64_t *offset_best, *word_offset_best, *sink;
    double *masses[4], *entropy, *confidence, *duplicate, *induction, *rarest;
    int64_t q_row, q_head, q_one, k_row, k_head, k_one, lse_row, lse_head;
    int64_t documents, width, left, right, answers_row, edges, room, rows, longest, most_words;
    double scale, sinks;
} Given;

/* What one thread needs besides. */
typedef struct {
    float *queries;            /* [width, GROUP], scaled */
    float *keys;               /* [longest / PANEL, width, PANEL] */
    float *weights;            /* those of a strip */
    float *by_key, *by_distance;
    float *mean, *words;       /* a word's weights by piece and by word; these with SPARE zeros before and after */
} Room;

typedef struct {
    const Given *given;
    Room *room;
    int64_t document, head, row, n, panels, pitch; /* panels hold n keys; a row of weights holds at least one 0 beyond */
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
    Largest found = {0, most_bits > 0 ? first : -1};
    memcpy(&found.weight, &most_bits, sizeof found.weight);
    return found;
}

static inline void larger_at(lanes x, int32_t j, lanes *largest, whole *place) {
    whole fresh = x > *largest;
    *largest = (lanes)((fresh & (whole)x) | (~fresh & (whole)*largest));
    *place = (fresh & ((whole){0} + j)) | (~fresh & *place);
}

/* --- by piece ----------------------------------------------------------------------------------------------------------- */

/* Makes a row of logarithms one of weights, and adds all that is said by piece. `by_distance` begins at key 0. */
static void weigh(const Item *item, int64_t i, float *restrict row, float *restrict by_key, float *restrict by_distance) {
    const Given *g = item->given;
    int64_t h = item->head, from = most(0, i - g->left), to = least(item->n, i + g->right + 1);
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
    g->entropy[h] += total(entropy), g->confidence[h] += best.weight;
    if (best.place >= 0 && llabs(away) <= AWAY) g->offset_best[h * OFFSETS + AWAY + away]++;
    g->sink[h] += row[0] > (float)g->sinks;
    for (int64_t j = g->before[item->row + i]; j >= 0; j = g->before[item->row + j]) {
        g->duplicate[h] += row[j];
        if (j + 1 < i) g->induction[h] += row[j + 1];
    }
}

/* Adds the sums by key and by distance of a strip of queries to what they are sums of. */
static void settle(const Item *item, int64_t start, int64_t rows) {
    const Given *g = item->given;
    int64_t h = item->head;
    const float *by_distance = item->room->by_distance;
    for (int64_t i = 0; i < item->n + rows - 1; i++) {
        int64_t away = i - (rows - 1) - start;
        if (llabs(away) >= item->n) continue;
        if (llabs(away) <= AWAY) g->offset_weight[h * OFFSETS + AWAY + away] += by_distance[i];
        g->distances[h * g->edges + g->bins[llabs(away)]] += by_distance[i];
    }
    for (int64_t m = g->marks_from[item->document]; m < g->marks_from[item->document + 1]; m++)
        g->masses[g->marks[2 * m]][h] += item->room->by_key[g->marks[2 * m + 1]];
}

/* --- by word ------------------------------------------------------------------------------------------------------------ */

/* The weights of a word by piece, averaged over its own pieces. */
static const float *averaged(const Item *item, int64_t start, const int32_t *pieces, int64_t count) {
    const float *weights = item->room->weights;
    if (count == 1) return weights + (pieces[0] - start) * item->pitch;
    float *mean = item->room->mean, share = 1 / (float)count;
    memset(mean, 0, item->pitch * sizeof(float));
    for (int64_t p = 0; p < count; p++) {
        const float *row = weights + (pieces[p] - start) * item->pitch;
        for (int64_t j = 0; j < item->pitch; j += LANES) *(lanes *)(mean + j) += *(const lanes *)(row + j) * share;
    }
    return mean;
}

/* Whether the head's word is right, for each question that a word asks. */
static void answer(const Item *item, int64_t word, int64_t best, const float *words) {
    const Given *g = item->given;
    for (int64_t q = g->asked_from[word]; q < g->asked_from[word + 1]; q++) {
        const int32_t *key = g->keys + 2 * g->keys_from[q], *past = g->keys + 2 * g->keys_from[q + 1];
        float largest = 0;
        int right = 0;
        for (; key < past; key += 2) {
            if (!g->asked[2 * q + 1])
                right |= key[0] == best;
            else if (words[key[0]] > largest)
                largest = words[key[0]], right = key[1];
        }
        if (right) g->answers[g->asked[2 * q] * g->answers_row + item->head] = 1;
    }
}

/* All that the words of a strip say, whose pieces' weights are there. */
static void by_word(const Item *item, int64_t start, int64_t first, int64_t past) {
    const Given *g = item->given;
    int64_t h = item->head, base = g->words_from[item->document], count = g->words_from[item->document + 1] - base;
    const int32_t *restrict piece = g->head_piece + base;
    float *restrict words = item->room->words + SPARE;
    float offsets[SPARE * 2 + LANES] = {0};
    memset(words + count, 0, (SPARE + LANES) * sizeof(float));
    for (int64_t word = first; word < past; word++) {
        int64_t from = g->pieces_from[base + word], pieces = g->pieces_from[base + word + 1] - from;
        if (!pieces) continue;
        const float *restrict mean = averaged(item, start, g->pieces + from, pieces);
        for (int64_t w = 0; w < count; w++) words[w] = mean[piece[w]];
        for (int64_t m = g->more_from[item->document]; m < g->more_from[item->document + 1]; m++)
            words[g->more[2 * m]] += mean[g->more[2 * m + 1]];
        lanes largest = {0};
        whole place = {0};
        for (int64_t w = 0; w < count; w += LANES) larger_at(*(const loose *)(words + w), (int32_t)w, &largest, &place);
        Largest best = largest_of(largest, place);
        int64_t away = best.place - word;
        if (best.place >= 0 && llabs(away) <= AWAY) g->word_offset_best[h * OFFSETS + AWAY + away]++;
        for (int64_t o = 0; o < OFFSETS; o += LANES) *(loose *)(offsets + o) += *(const loose *)(words + word - AWAY + o);
        if (g->rare[item->document] >= 0 && g->rare[item->document] != word) g->rarest[h] += words[g->rare[item->document]];
        answer(item, base + word, best.place, words);
    }
    for (int64_t o = 0; o < OFFSETS; o++) g->word_offset_weight[h * OFFSETS + o] += offsets[o];
}

/* --- a head of a document ------------------------------------------------------------------------------------------------ */

static void strip(const Item *item, int64_t start, int64_t stop) {
    const Given *g = item->given;
    Room *room = item->room;
    int64_t rows = stop - start;
    memset(room->by_key, 0, item->pitch * sizeof(float));
    memset(room->by_distance, 0, (item->pitch + rows) * sizeof(float));
    for (int64_t i = start; i < stop; i += GROUP) {
        float level[GROUP] = {0}, *weights = room->weights + (i - start) * item->pitch;
        int64_t real = least(GROUP, stop - i);
        const float *lse = g->lse + (item->row + i) * g->lse_row + item->head * g->lse_head;
        for (int64_t r = 0; r < real; r++) level[r] = lse[r * g->lse_row];
        lay_out(g->q + (item->row + i) * g->q_row + item->head * g->q_head, g->q_row, g->q_one, real, g->width, GROUP, (float)g->scale, room->queries);
        for (int64_t p = 0; p < item->panels; p++)
            product(room->queries, room->keys + p * g->width * PANEL, g->width, level, weights + p * PANEL, item->pitch);
        for (int64_t r = 0; r < real; r++) {
            float *row = weights + r * item->pitch;
            if (g->asks[item->row + i + r] && level[r] != -INFINITY)
                weigh(item, i + r, row, room->by_key, room->by_distance + (stop - 1 - i - r));
            else
                memset(row, 0, item->pitch * sizeof(float));
        }
    }
    settle(item, start, rows);
}

/* Adds to sums and answers what heads `from` to `to` do; gives 0, or 1 where there is no memory. */
int sightline_heads(const Given *g, int64_t from, int64_t to) {
    Room room = {0};
    int64_t widest = (g->longest / PANEL + 1) * PANEL;
    size_t one = sizeof(float);
    room.queries = aligned(g->width * GROUP * one), room.keys = aligned(widest * g->width * one);
    room.weights = aligned(g->room * one), room.by_key = aligned(widest * one);
    room.by_distance = aligned((widest + g->rows) * one), room.mean = aligned(widest * one);
    room.words = aligned((g->most_words + 2 * SPARE + LANES) * one);
    int failed = !(room.queries && room.keys && room.weights && room.by_key && room.by_distance && room.mean && room.words);
    if (!failed) memset(room.words, 0, SPARE * one);
    for (int64_t h = from; h < to && !failed; h++) {
        for (int64_t d = 0; d < g->documents; d++) {
            Item item = {.given = g, .room = &room, .document = d, .head = h, .row = g->offsets[d]};
            item.n = g->offsets[d + 1] - item.row;
            item.panels = (item.n + PANEL - 1) / PANEL, item.pitch = (item.n / PANEL + 1) * PANEL;
            lay_out(g->k + item.row * g->k_row + g->groups[h] * g->k_head, g->k_row, g->k_one, item.n, g->width, PANEL, 1, room.keys);
            for (int64_t s = g->strips_from[d]; s < g->strips_from[d + 1]; s++) {
                const int32_t *mine = g->strips + 4 * s;
                strip(&item, mine[0], mine[1]);
                by_word(&item, mine[0], mine[2], mine[3]);
            }
        }
    }
    free(room.queries), free(room.keys), free(room.weights), free(room.by_key), free(room.by_distance), free(room.mean);
    free(room.words);
    return failed;
}
