// What a stream was given, and when it happens.
#pragma once
#include <deque>
#include <functional>
#include <vector>

namespace emulator {

using Result = int;  // of the driver; 0 is success

struct Stream;

// An Event counts how often it was recorded and how far that has happened.
struct Event {
  long recorded = 0, reached = 0;
  Stream *by = nullptr;  // the stream that recorded it last
};

// An Item is work, or an event that is recorded or waited for the count-th time.
struct Item {
  std::function<Result()> work;
  Event *event;
  long count;
  Stream *by;  // null where this stream records it
};

struct Stream {
  bool recording = false;  // for a graph
  bool eager = true;
  std::deque<Item> pending;
  std::vector<std::function<Result()>> graph;
};

// Under schedule 1 everything happens at once. Under 2 it happens when somebody waits for it, and
// under others some streams, drawn again and again, are ahead and the others behind: what is
// ordered by neither a stream nor an event, nor by a wait of the host, happens in either order.
// The caller holds the driver's lock.
Stream *open_stream();
void close_stream(Stream *);
void give(Stream *, std::function<Result()>);  // null: the default stream, which waits for all
void record(Event *, Stream *);
void wait_for(Stream *, Event *);
void finish(Stream *);           // until all that it was given has happened
void finish_all();
void finish(const Event *);      // until it was reached as often as it was recorded

// What went wrong first, after which nothing happens any more and every call says so.
extern Result lost;

}  // namespace emulator
