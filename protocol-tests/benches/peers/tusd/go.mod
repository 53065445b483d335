module windlass.example/peers/tusd

go 1.24
