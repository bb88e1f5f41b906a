<?php

declare(strict_types=1);

namespace Taskbus\Tests;

use Taskbus\HttpRoute;

test('a URI below the namespace is a class', function (): void {
    same('Disk\GetFreeSpace', HttpRoute::className('com.example.shop.disk.get_free_space', 'com.example.shop', ''));
    same('Com\Example\X', HttpRoute::className('com.example.x', '', ''));
    same('My\Tasks\Top10', HttpRoute::className('com.top10', 'com', 'My\Tasks'));
    same('A\B', HttpRoute::className('a.b', '', ''));
});

test('any other URI is none', function (): void {
    foreach (['com.example', 'com.examples.x', 'com.example.', 'com.example.X', 'com.example.xY', 'com.example._x',
        'com.example.x_', 'com.example.x__y', 'com.example.top_10', 'com.example.1', "com.example.x\n",
        'com.example.a b', 'com.example.a/b', 'com.example...a', 'com.example.é', ''] as $uri) {
        same(null, HttpRoute::className($uri, 'com.example', 'My\Tasks'));
    }
});
