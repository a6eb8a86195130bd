"""Native contracts that brands and consumers use: points, certificates, consent."""
