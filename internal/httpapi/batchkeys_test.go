package httpapi_test

import "testing"

// TestKeyOfABatchAndItsOperation: a key that a batch and one of its operations share has one meaning: the operation is
// refused, or it replays as a single request. It never makes the server fail.
func TestKeyOfABatchAndItsOperation(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 10)
		a := h.try("POST", "/v1/batch", `{"operations":[{"operation":"createReservation","idempotencyKey":"same",
			"body":{"productId":"mug","quantity":1}}]}`, "Idempotency-Key", "same")
		switch {
		case a.StatusCode >= 500:
			h.Errorf("the batch: %s", a.body)
		case a.StatusCode == 200 && a.statuses() == "201":
			b := h.try("POST", "/v1/reservations", `{"productId":"mug","quantity":1}`, "Idempotency-Key", "same")
			if b.Header.Get("Idempotent-Replayed") != "true" {
				h.Errorf("the operation succeeded, and its key says: %s", b.body)
			}
		}
	})
}
