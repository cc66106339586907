// Command bare is what Holdfast's speed is measured against: the same server, route and answer, and nothing stored. With
// -fsync FILE it writes and flushes 16 KiB before each answer, which is what a durable store has to pay at the least.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
)

const answer = `{"id":"rsv_01m855hbq1e008000002td6m00","status":"ACTIVE","lines":[{"line":1,"productId":"p0","location":"main","quantity":1,"unitPrice":{"amount":1999,"currency":"EUR"}}],"total":{"amount":1999,"currency":"EUR"},"customerId":null,"metadata":{},"createdAt":"2026-11-23T21:38:33.825Z","updatedAt":"2026-11-23T21:38:33.825Z","expiresAt":"2026-11-23T21:48:33.825Z","endedAt":null,"cancelReason":null,"orderId":null,"version":1}`

func main() {
	listen := flag.String("listen", "127.0.0.1:8499", "address")
	path := flag.String("fsync", "", "file to write and flush before each answer")
	flag.Parse()
	flush := func() error { return nil }
	if *path != "" {
		file, err := os.Create(*path)
		if err != nil {
			log.Fatal(err)
		}
		var mu sync.Mutex
		page := make([]byte, 16<<10)
		flush = func() error {
			mu.Lock()
			defer mu.Unlock()
			if _, err := file.Write(page); err != nil {
				return err
			}
			return file.Sync()
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/reservations", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return
		}
		if err := flush(); err != nil {
			log.Fatal(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, answer)
	})
	log.Fatal(http.ListenAndServe(*listen, mux))
}
