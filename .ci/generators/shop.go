// Shop buys a mug with the Go client that openapi-generator makes.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"example.com/shop/holdfast"
)

func main() {
	configuration := holdfast.NewConfiguration()
	configuration.Servers = holdfast.ServerConfigurations{{URL: os.Args[1]}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := buy(ctx, holdfast.NewAPIClient(configuration)); err != nil {
		log.Fatal(err)
	}
}

func buy(ctx context.Context, shop *holdfast.APIClient) error {
	input := holdfast.NewProductInput("Mug", *holdfast.NewMoneyInput(1<<40, "EUR"))
	input.SetId("go-mug")
	input.SetTotalStock(1 << 41)
	product, _, err := shop.ProductsAPI.CreateProduct(ctx).ProductInput(*input).Execute()
	if err != nil {
		return fmt.Errorf("creating the product: %w", err)
	}
	line := holdfast.NewSingleReservationInput(product.Id, 2)
	line.SetTtlSeconds(900)
	line.SetCustomerIdNil() // null is as good as nothing
	hold := holdfast.SingleReservationInputAsReservationInput(line)
	held, _, err := shop.ReservationsAPI.CreateReservation(ctx).IdempotencyKey("go-1").ReservationInput(hold).Execute()
	if err != nil {
		return fmt.Errorf("holding: %w", err)
	}
	order, _, err := shop.OrdersAPI.CreateOrder(ctx).OrderInput(*holdfast.NewOrderInput(held.Id)).Execute()
	if err != nil {
		return fmt.Errorf("confirming: %w", err)
	}
	if order.Total.Amount != 1<<41 || *order.Status.String != "CONFIRMED" || order.Reference.Get() != nil {
		return fmt.Errorf("the order is %+v", order)
	}
	return look(ctx, shop, product.Id, order.Id)
}

// look lists what is there now, and asks for what is not.
func look(ctx context.Context, shop *holdfast.APIClient, productID, orderID string) error {
	products, _, err := shop.ProductsAPI.ListProducts(ctx).Id([]string{productID, "nothing"}).Execute()
	if err != nil {
		return fmt.Errorf("listing products: %w", err)
	}
	if len(products.Data) != 1 || products.Data[0].CommittedStock != 2 || products.Data[0].AvailableStock != 1<<41-2 {
		return fmt.Errorf("the products are %+v", products.Data)
	}
	events, _, err := shop.EventsAPI.ListEvents(ctx).Limit(1000).Execute()
	if err != nil {
		return fmt.Errorf("listing events: %w", err)
	}
	last := events.Data[len(events.Data)-1]
	if *last.Type.String != "order.created" || last.Subject != orderID || last.Data.Order.Id != orderID {
		return fmt.Errorf("the last event is %+v", last)
	}
	_, _, err = shop.ProductsAPI.GetProduct(ctx, "nothing").Execute()
	var refused *holdfast.GenericOpenAPIError
	if !errors.As(err, &refused) {
		return fmt.Errorf("a product that is not there gave %w", err)
	}
	problem, ok := refused.Model().(holdfast.Problem)
	if !ok || *problem.Code.String != "product-not-found" {
		return fmt.Errorf("the problem is %s", refused.Body())
	}
	fmt.Printf("event %d made order %s\n", last.Sequence, orderID)
	return nil
}
