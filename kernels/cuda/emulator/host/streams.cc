#include "streams.h"

#include <algorithm>

#include "fibers.h"

namespace emulator {

Result lost;
static std::vector<Stream *> streams;
static uint32_t seed;

static uint32_t draw() {
  seed = (seed ? seed : schedule) * 1664525u + 1013904223u;
  return seed >> 16;
}

// step lets the next thing of a stream happen; false where there is none or it must wait.
static bool step(Stream *s) {
  if (s->pending.empty()) return false;
  Item &i = s->pending.front();
  if (i.by && i.event->reached < i.count) return false;
  if (i.event && !i.by) i.event->reached = std::max(i.event->reached, i.count);
  auto work = std::move(i.work);
  s->pending.pop_front();
  if (work && !lost) lost = work();
  return true;
}

// One step of a stream at least, and for that whatever it waits for.
static void push(Stream *s) {
  while (!s->pending.empty() && !step(s)) push(s->pending.front().by);
}

static void some_happen() {
  static int calls;
  if (schedule > 2 && calls++ % 16 == 0)
    for (Stream *s : streams) s->eager = draw() % 2;
  for (bool again = true; again && schedule != 2;) {
    again = false;
    for (Stream *s : streams)
      while (s->eager && step(s)) again = true;
  }
}

Stream *open_stream() {
  streams.push_back(new Stream);
  return streams.back();
}

void close_stream(Stream *s) {
  finish(s);
  std::erase(streams, s);
  delete s;
}

static void append(Stream *s, Item i) {
  s->pending.push_back(std::move(i));
  some_happen();
}

void give(Stream *s, std::function<Result()> work) {
  if (!s) {
    finish_all();
    if (!lost) lost = work();
    return;
  }
  append(s, {std::move(work), nullptr, 0, nullptr});
}

void record(Event *e, Stream *s) {
  e->by = s;
  append(s, {nullptr, e, ++e->recorded, nullptr});
}

void wait_for(Stream *s, Event *e) {
  if (e->recorded > e->reached) append(s, {nullptr, e, e->recorded, e->by});
}

void finish(Stream *s) {
  while (!s->pending.empty()) push(s);
}

void finish_all() {
  for (Stream *s : streams) finish(s);
}

void finish(const Event *e) {
  while (e->reached < e->recorded) push(e->by);
}

}  // namespace emulator
