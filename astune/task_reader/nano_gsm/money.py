"""Families about prices, earnings and savings."""

from __future__ import annotations

from astune.task_reader.nano_gsm.family import Family, Step

MONEY: tuple[Family, ...] = (
    Family(
        "egg_sales",
        questions=(
            "{name}'s ducks lay {eggs} eggs a day. {He} eats {eaten} for breakfast and bakes with {baked}. {He} sells "
            "the rest for ${price} each. How many dollars does {he} make a day?",
            "Every day {name} collects {eggs} eggs, eats {eaten} of them and uses {baked} for muffins. The remaining "
            "eggs are sold at ${price} per egg. How much does {he} earn every day?",
            "{name} gets {eggs} eggs. After eating {eaten} and baking with {baked}, {he} sells what is left for "
            "${price} an egg. How many dollars is that?",
        ),
        plans=(
            "Find the eggs that are left. Then multiply by the price.",
            "First subtract the eggs that are used, then multiply by the price.",
        ),
        slots={"eggs": (14, 60), "eaten": (2, 6), "baked": (2, 7), "price": (2, 9)},
        steps=(
            Step("left", "eggs - eaten - baked", "{name} sells {math} eggs."),
            Step("money", "left * price", "{He} makes {math} dollars."),
        ),
    ),
    Family(
        "two_items",
        questions=(
            "{name} buys {first} {item} for ${price} each and {second} {other} for ${cost} each. How much does "
            "{he} pay "
            "in total?",
            "At the shop {name} takes {first} {item} at ${price} each and {second} {other} at ${cost} each. What "
            "is the "
            "total bill in dollars?",
            "One of the {item} costs ${price} and one of the {other} costs ${cost}. {name} buys {first} {item} and "
            "{second} {other}. How many dollars does {he} spend?",
        ),
        plans=(
            "Find the cost of the {item} and of the {other}, then add them.",
            "Multiply each count by its price. Then add both costs.",
        ),
        slots={"first": (2, 12), "price": (2, 15), "second": (2, 12), "cost": (2, 15)},
        words={"item": ("pens", "books", "apples", "shirts"), "other": ("rulers", "bags", "cakes", "hats")},
        steps=(
            Step("one", "first * price", "The {item} cost {math} dollars."),
            Step("two", "second * cost", "The {other} cost {math} dollars."),
            Step("total", "one + two", "Together that is {math} dollars."),
        ),
    ),
    Family(
        "change",
        questions=(
            "{name} buys {count} {item} for ${price} each and pays with ${paid}. How much change does {he} get?",
            "{name} has ${paid}. {He} buys {count} {item} that cost ${price} each. How many dollars does {he} "
            "have left?",
            "A shop sells {item} for ${price} each. {name} takes {count} of them and hands over ${paid}. How "
            "many dollars "
            "does {he} get back?",
        ),
        plans=(
            "Find what the {item} cost, then take it from the money.",
            "Multiply the count by the price. Subtract the cost from the money.",
        ),
        slots={"count": (2, 9), "price": (2, 9), "paid": (20, 100, 5)},
        words={"item": ("notebooks", "sandwiches", "toys", "tickets")},
        positive="paid - count * price",
        steps=(
            Step("cost", "count * price", "The {item} cost {math} dollars."),
            Step("change", "paid - cost", "{name} is left with {math} dollars."),
        ),
    ),
    Family(
        "weekly_saving",
        questions=(
            "{name} saves ${weekly} every week. How many dollars does {he} have after {weeks} weeks if {he} "
            "starts with "
            "${start}?",
            "{name} has ${start} in a jar and adds ${weekly} a week. How much is in the jar after {weeks} weeks?",
        ),
        plans=(
            "Find what is saved over the weeks, then add the start.",
            "Multiply the weekly money by the weeks. Then add the first money.",
        ),
        slots={"weekly": (3, 25), "weeks": (3, 20), "start": (5, 90)},
        steps=(
            Step("saved", "weekly * weeks", "{name} saves {math} dollars."),
            Step("total", "start + saved", "Altogether that is {math} dollars."),
        ),
    ),
    Family(
        "wage_overtime",
        questions=(
            "{name} earns ${rate} an hour for {hours} hours and ${extra} an hour for {over} hours of overtime. What is "
            "{his} pay in dollars?",
            "{name} works {hours} hours at ${rate} an hour and then {over} overtime hours at ${extra} an hour. "
            "How much "
            "does {he} earn?",
        ),
        plans=(
            "Find the normal pay and the overtime pay, then add them.",
            "Multiply hours by the rate for both parts. Then add.",
        ),
        slots={"rate": (8, 20), "hours": (10, 40), "extra": (21, 35), "over": (2, 9)},
        steps=(
            Step("normal", "hours * rate", "Normal hours pay {math} dollars."),
            Step("bonus", "over * extra", "Overtime pays {math} dollars."),
            Step("pay", "normal + bonus", "The pay is {math} dollars."),
        ),
    ),
    Family(
        "discount",
        questions=(
            "A {item} costs ${price}. It is sold with a discount of {percent} percent. What is the new price in "
            "dollars?",
            "{name} wants a {item} that costs ${price}. Today it is {percent} percent off. How many dollars does "
            "{he} pay?",
        ),
        plans=(
            "Find the discount, then take it from the price.",
            "Take the percent of the price. Then subtract it from the price.",
        ),
        slots={"price": (20, 300, 10), "percent": (10, 60, 10)},
        words={"item": ("coat", "bike", "lamp", "phone", "table")},
        steps=(
            Step("off", "price * percent // 100", "The discount is {math} dollars."),
            Step("new", "price - off", "The new price is {math} dollars."),
        ),
    ),
    Family(
        "split_bill",
        questions=(
            "{people} friends eat together. The food costs ${food} and the drinks cost ${drinks}. They share the bill "
            "equally. How many dollars does each friend pay?",
            "A group of {people} friends has a bill of ${food} for food and ${drinks} for drinks. If they split it "
            "equally, how much does each one pay?",
        ),
        plans=(
            "Add the food and the drinks, then divide by the friends.",
            "Find the full bill. Then share it between the friends.",
        ),
        slots={"people": (2, 9), "each": (6, 30), "drinks": (5, 45)},
        derived={"food": "people * each - drinks"},
        positive="food - drinks",
        steps=(
            Step("bill", "food + drinks", "The bill is {math} dollars."),
            Step("share", "bill // people", "Each friend pays {math} dollars."),
        ),
    ),
    Family(
        "profit",
        questions=(
            "{name} buys {count} {item} for ${cost} each and sells them for ${price} each. What is {his} profit "
            "in dollars?",
            "A shop owner pays ${cost} for each of {count} {item} and sells each one for ${price}. How many dollars of "
            "profit is that?",
        ),
        plans=(
            "Find the profit on one of the {item}, then multiply by the count.",
            "Subtract the cost from the price. Then multiply by the count.",
        ),
        slots={"count": (4, 40), "cost": (2, 20), "gain": (1, 12)},
        derived={"price": "cost + gain"},
        words={"item": ("chairs", "mugs", "plants", "scarves")},
        steps=(
            Step("margin", "price - cost", "Each one brings {math} dollars."),
            Step("profit", "margin * count", "The profit is {math} dollars."),
        ),
    ),
    Family(
        "missing_money",
        questions=(
            "{name} wants a {item} that costs ${price}. {He} has ${have} and gets ${gift} as a gift. How many "
            "more dollars "
            "does {he} need?",
            "A {item} costs ${price}. {name} has saved ${have} and {his} aunt gives {gift} dollars more. How "
            "much money is "
            "still missing?",
        ),
        plans=(
            "Add the money that {name} has, then take it from the price.",
            "Find all the money first. Subtract it from the price.",
        ),
        slots={"price": (80, 300), "have": (10, 50), "gift": (5, 28)},
        words={"item": ("guitar", "tent", "camera", "watch")},
        steps=(
            Step("money", "have + gift", "{name} has {math} dollars."),
            Step("need", "price - money", "{He} needs {math} dollars."),
        ),
    ),
    Family(
        "lemonade",
        questions=(
            "{name} sells {cups} cups of lemonade at ${price} each. {He} spent ${lemons} on lemons and ${sugar} "
            "on sugar. "
            "How much money does {he} make after the costs?",
            "Lemons cost {name} ${lemons} and sugar costs ${sugar}. {He} sells {cups} cups of lemonade for "
            "${price} a cup. "
            "What is {his} profit in dollars?",
        ),
        plans=(
            "Find what the cups bring and what was spent, then subtract.",
            "Multiply cups by the price. Add the costs. Then subtract.",
        ),
        slots={"cups": (15, 60), "price": (2, 6), "lemons": (4, 15), "sugar": (2, 12)},
        steps=(
            Step("sales", "cups * price", "The cups bring {math} dollars."),
            Step("costs", "lemons + sugar", "The costs are {math} dollars."),
            Step("profit", "sales - costs", "{name} makes {math} dollars."),
        ),
    ),
    Family(
        "twice_price",
        questions=(
            "A {item} costs ${price}. A {other} costs {times} times as much. How many dollars do both cost together?",
            "{name} buys a {item} for ${price} and a {other} that is {times} times as expensive. How much does "
            "{he} pay?",
        ),
        plans=(
            "Find the price of the {other}, then add the {item}.",
            "Multiply the price of the {item}. Then add both prices.",
        ),
        slots={"price": (4, 60), "times": (2, 6)},
        words={"item": ("ball", "cap", "belt"), "other": ("jacket", "racket", "scooter")},
        steps=(
            Step("big", "price * times", "The {other} costs {math} dollars."),
            Step("total", "price + big", "Both cost {math} dollars."),
        ),
    ),
    Family(
        "rent_car",
        questions=(
            "A car costs ${daily} a day to rent, plus ${fee} for cleaning. {name} rents it for {days} days. How "
            "many dollars "
            "does {he} pay?",
            "{name} rents a car for {days} days at ${daily} per day. There is also a cleaning fee of ${fee}. "
            "What is the "
            "total cost in dollars?",
        ),
        plans=(
            "Find the cost of the days, then add the fee.",
            "Multiply the days by the daily price. Then add the fee.",
        ),
        slots={"daily": (20, 90), "fee": (5, 40), "days": (2, 14)},
        steps=(
            Step("rent", "days * daily", "The days cost {math} dollars."),
            Step("total", "rent + fee", "With the fee that is {math} dollars."),
        ),
    ),
)
