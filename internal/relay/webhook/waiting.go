package webhook

import (
	"container/heap"
	"time"
)

// waiting are the subjects whose first event is to be tried later, the earliest first.
type waiting struct{ heap dueHeap }

func (w *waiting) add(q *subject)    { heap.Push(&w.heap, q) }
func (w *waiting) remove(q *subject) { heap.Remove(&w.heap, q.place) }
func (w *waiting) pop() *subject     { return heap.Pop(&w.heap).(*subject) }

// first is when the earliest one is due.
func (w *waiting) first() (at time.Time, any bool) {
	if len(w.heap) == 0 {
		return at, false
	}
	return w.heap[0].due, true
}

// dueHeap implements [heap.Interface].
type dueHeap []*subject

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements [heap.Interface].
func (h *dueHeap) Push(q any) {
	q.(*subject).place = len(*h)
	*h = append(*h, q.(*subject))
}

// Pop implements [heap.Interface].
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	last.place = -1
	return last
}
