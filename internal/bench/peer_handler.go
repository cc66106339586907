package bench

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// ServePeer serves a peer on the two routes of Holdfast that a comparison needs. The answers have the same headers and
// size, and come from the same bare HTTP server: what differs is what a hold costs the peer.
func ServePeer(p Peer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", noMetrics)
	mux.HandleFunc("POST /v1/products", func(w http.ResponseWriter, r *http.Request) { addProduct(p, w, r) })
	mux.HandleFunc("POST /v1/reservations", func(w http.ResponseWriter, r *http.Request) { makeHold(p, w, r) })
	return mux
}

func addProduct(p Peer, w http.ResponseWriter, r *http.Request) {
	var body struct {
		ID         string
		TotalStock int64
	}
	if !readBody(w, r, &body) {
		return
	}
	if err := p.AddProduct(r.Context(), body.ID, body.TotalStock); err != nil {
		fail(w, http.StatusInternalServerError, "internal", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"id": body.ID, "totalStock": body.TotalStock})
}

func makeHold(p Peer, w http.ResponseWriter, r *http.Request) {
	var body struct {
		TTLSeconds int64
		ProductID  string
		Quantity   int64
	}
	if !readBody(w, r, &body) {
		return
	}
	h := Hold{
		Key: nextKey(), Product: body.ProductID, Quantity: body.Quantity,
		Expires: time.Now().Add(time.Duration(body.TTLSeconds) * time.Second),
	}
	switch err := p.Hold(r.Context(), h); {
	case err == nil:
		answerHold(w, holdID(h.Key))
	case errors.Is(err, errSoldOut):
		fail(w, http.StatusConflict, "insufficient-stock", "Too few are left.")
	default:
		fail(w, http.StatusInternalServerError, "internal", err.Error())
	}
}

func readBody(w http.ResponseWriter, r *http.Request, into any) (ok bool) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid-json", err.Error())
	}
	return err == nil
}

// fail answers with a problem, as Holdfast does.
func fail(w http.ResponseWriter, status int, code, detail string) {
	body, _ := json.Marshal(map[string]any{"status": status, "code": code, "detail": detail}) // which cannot fail
	h := w.Header()
	setCommonHeaders(h)
	h["Content-Type"] = []string{"application/problem+json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
