<?php

declare(strict_types=1);

namespace Taskbus\Tests;

use Taskbus\Portable;

test('integers of more than 64 bits are found', function (): void {
    foreach (['18446744073709551616', '-9223372036854775809', '99999999999999999999', '-1' . str_repeat('0', 400)] as $one) {
        foreach (["[$one]", "[\"1\\\"2\",$one]", "{\"a\": $one}", "[1,[$one ]]"] as $json) {
            same(['args', Portable::shown($one), 'an integer of more than 64 bits', 'send it as a text'],
                Portable::flawOfIntegers('args', $json));
        }
    }
});

test('anything else is no such integer', function (): void {
    foreach (['18446744073709551615', '-9223372036854775808', '9999999999999999999', '"99999999999999999999"',
        '"\\"99999999999999999999"', '99999999999999999999.5', '0.99999999999999999999', '99999999999999999999e3',
        '1e99999999999999999999', '1E-99999999999999999999', '1e+99999999999999999999',
        '"' . str_repeat('\\\\9', 100_000) . '99999999999999999999"'] as $one) {
        same(null, Portable::flawOfIntegers('args', "[$one]"));
    }
});
