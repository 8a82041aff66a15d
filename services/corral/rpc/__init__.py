"""What every gRPC server and client here shares: serving, health, errors, deadlines."""
