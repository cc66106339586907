package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/holdfast/holdfast/api"
	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// startServer starts a Holdfast in memory, as a user would start holdfast serve.
func startServer() (url string, stop func()) {
	e := engine.Open(memory.Open(memory.Options{}), engine.Options{Render: httpapi.Render})
	server, err := httpapi.New(httpapi.Options{Engine: e, Spec: api.OpenAPI})
	if err != nil {
		panic(err)
	}
	listener := httptest.NewServer(server)
	return listener.URL, func() {
		server.Stop()
		http.DefaultClient.CloseIdleConnections()
		listener.Close()
		_ = e.Close(context.Background())
	}
}

// A checkout: hold the units while the shopper pays, then turn the hold into an order.
func Example() {
	url, stop := startServer()
	defer stop()
	ctx := context.Background()
	c := client.New(url)

	_, err := c.CreateProduct(ctx, client.NewProduct{ID: "mug", Name: "Mug", Price: client.Money{Amount: 1999, Currency: "EUR"}, TotalStock: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	hold, err := c.Reserve(ctx, client.NewReservation{Lines: []client.NewLine{{ProductID: "mug", Quantity: 2}}, CustomerID: "anna", TTLSeconds: 600})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(hold.Status, hold.Total.Amount, hold.ExpiresAt.Sub(hold.CreatedAt))

	// ... the shopper pays ...

	order, err := c.Confirm(ctx, client.NewOrder{ReservationID: hold.ID, Reference: "payment-8842"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(order.Status, len(order.Lines))
	// Output:
	// ACTIVE 3998 10m0s
	// CONFIRMED 1
}

// A refusal is told apart with errors.Is, and carries what is short.
func Example_soldOut() {
	url, stop := startServer()
	defer stop()
	ctx := context.Background()
	c := client.New(url)
	if _, err := c.CreateProduct(ctx, client.NewProduct{ID: "seat", Name: "Seat", Price: client.Money{Amount: 100, Currency: "EUR"}, TotalStock: 1}); err != nil {
		fmt.Println(err)
		return
	}
	_, err := c.Reserve(ctx, client.NewReservation{Lines: []client.NewLine{{ProductID: "seat", Quantity: 2}}})
	var problem *client.Error
	if errors.Is(err, client.InsufficientStock) && errors.As(err, &problem) {
		fmt.Println(problem.Shortages[0].ProductID, problem.Shortages[0].Requested, problem.Shortages[0].Available)
	}
	// Output: seat 2 1
}

// A process that may crash keeps its key with its own data, and repeats the call with it: the hold is made once.
func ExampleWithKey() {
	url, stop := startServer()
	defer stop()
	ctx := context.Background()
	c := client.New(url)
	if _, err := c.CreateProduct(ctx, client.NewProduct{ID: "seat", Name: "Seat", Price: client.Money{Amount: 100, Currency: "EUR"}, TotalStock: 9}); err != nil {
		fmt.Println(err)
		return
	}
	var ids []string
	for range 2 {
		hold, err := c.Reserve(client.WithKey(ctx, "cart-7/attempt-1"), client.NewReservation{Lines: []client.NewLine{{ProductID: "seat", Quantity: 1}}})
		if err != nil {
			fmt.Println(err)
			return
		}
		ids = append(ids, hold.ID)
	}
	fmt.Println(ids[0] == ids[1])
	// Output: true
}

// The feed is followed from a place on; here until the first order.
func ExampleClient_Events() {
	url, stop := startServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := client.New(url)
	if _, err := c.CreateProduct(ctx, client.NewProduct{ID: "seat", Name: "Seat", Price: client.Money{Amount: 100, Currency: "EUR"}, TotalStock: 9}); err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		hold, err := c.Reserve(ctx, client.NewReservation{Lines: []client.NewLine{{ProductID: "seat", Quantity: 1}}})
		if err == nil {
			_, _ = c.Confirm(ctx, client.NewOrder{ReservationID: hold.ID})
		}
	}()
	for event, err := range c.Events(ctx, "0") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Sequence, event.Type)
		if event.Type == "order.created" {
			return
		}
	}
	// Output:
	// 1 product.created
	// 2 reservation.created
	// 3 reservation.confirmed
	// 4 order.created
}
